"""Who shares an encrypted room with a reader at one position of the log and not at another.

spec: client-server-api/#e2e-extensions-to-sync `DeviceLists`: "users [...] who now share an encrypted room", "users with whom
we do not share any encrypted rooms anymore" (E2E-11)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import Replaced
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Written
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.runtime.turns import Steps, next_turn

MEMBERS_AT_ONCE = 10_000
"""That are looked at in one turn."""
ENCRYPTION: StateKey = ("m.room.encryption", "")
MEMBER = "m.room.member"


class Then(NamedTuple):
    """Whether something was so at the first position, and whether it is at the second."""

    was: bool
    now: bool


class Touched(NamedTuple):
    """What entries between the positions say of one room."""

    changed: Mapping[StateKey, Then]
    """Whether it is encrypted, and of members whether they are joined, where that is another now."""
    unclear: bool
    """Branches have met: what was before is not to be read off the entries."""


@dataclass(frozen=True, slots=True)
class Moves:
    """What has happened in one room between the positions."""

    visible: Then
    """Whether the reader sees the devices of those who are in: the reader is joined, and the room is encrypted."""
    people: Mapping[str, Then] = field(default_factory=dict)
    """user_id -> whether they are joined, of those whose membership was touched since the first position."""


class Difference(NamedTuple):
    """User ids."""

    gained: set[str]
    lost: set[str]


def touched_rooms(written: Iterable[Written[EventEntry]]) -> dict[int, Touched]:
    """room_nid -> what entries that change current state say, whoever asks."""
    first: dict[int, dict[StateKey, bool]] = {}
    last: dict[int, dict[StateKey, bool]] = {}
    unclear: set[int] = set()
    for _, entry in written:
        room = entry.persisted.room_nid
        for change in entry.changes:
            if change.key != ENCRYPTION and change.user_nid is None:
                continue
            own = change.ref is not None and change.ref.event_id == entry.persisted.ref.event_id
            if not own or len(entry.extremities) > 1:
                unclear.add(room)
            before = _holds(change.key, entry.persisted.replaced)
            first.setdefault(room, {}).setdefault(change.key, before)
            now = change.key == ENCRYPTION or change.membership == JOIN
            last.setdefault(room, {})[change.key] = now
    return {
        room: Touched(
            {key: Then(was, last[room][key]) for key, was in keys.items() if was != last[room][key]},
            room in unclear,
        )
        for room, keys in first.items()
    }


def _holds(key: StateKey, replaced: Replaced | None) -> bool:
    if replaced is None or key == ENCRYPTION:
        return replaced is not None
    return bool(json.loads(replaced.content).get("membership") == "join")


def moves_in(touched: Touched, room: Room, reader: UserId) -> Moves:
    """What has happened in a room as far as the reader is concerned; `room` as it is."""
    joined, encrypted = room.membership(reader) == JOIN, ENCRYPTION in room.state
    own = touched.changed.get((MEMBER, reader), Then(joined, joined))
    secret = touched.changed.get(ENCRYPTION, Then(encrypted, encrypted))
    people = {key[1]: then for key, then in touched.changed.items() if key[0] == MEMBER and key[1] != reader}
    return Moves(Then(own.was and secret.was, own.now and secret.now), people)


async def difference(moves: Mapping[int, Moves], rooms: Mapping[int, Room], reader: UserId) -> Difference:
    """Who was gained and who was lost, as far as these rooms are concerned: `moves`, and the rooms as they are. Of large rooms
    some at a time; others have a turn between.
    """
    gained: set[str] = set()
    lost: set[str] = set()
    steps = Steps(MEMBERS_AT_ONCE)
    for nid, each in moves.items():
        if steps.full(len(each.people) if each.visible.was and each.visible.now else len(rooms[nid].members)):
            await next_turn()
        if each.visible.was and each.visible.now:
            gained.update(user for user, then in each.people.items() if then.now and not then.was)
            lost.update(user for user, then in each.people.items() if then.was and not then.now)
        elif each.visible.now:
            gained |= _now(rooms[nid], each, set(rooms[nid].members))
        elif each.visible.was:
            lost |= _was(rooms[nid], each, set(rooms[nid].members))
    gained.discard(reader)
    lost.discard(reader)
    for nid, each in moves.items():
        if steps.full(_compared(rooms[nid], gained, lost)):
            await next_turn()
        if each.visible.was:
            gained -= _was(rooms[nid], each, gained)
        if each.visible.now:
            lost -= _now(rooms[nid], each, lost)
    return Difference(gained, lost)


async def without_sharers(found: Difference, others: Iterable[Room]) -> Difference:
    """Without those who share one of these rooms, in which nothing has happened, all the time. Of large rooms some at a time."""
    gained, lost = found
    steps = Steps(MEMBERS_AT_ONCE)
    for room in others:
        if not gained and not lost:
            break
        if steps.full(_compared(room, gained, lost)):
            await next_turn()
        if ENCRYPTION in room.state:
            gained, lost = gained - _joined(room, gained), lost - _joined(room, lost)
    return Difference(gained, lost)


def _compared(room: Room, gained: set[str], lost: set[str]) -> int:
    """How many members that is."""
    members = len(room.members)
    return min(members, len(gained)) + min(members, len(lost))


def _was(room: Room, moves: Moves, among: set[str]) -> set[str]:
    """Those who were joined."""
    stayed = _joined(room, among) - moves.people.keys()
    return stayed | {user for user in moves.people.keys() & among if moves.people[user].was}


def _now(room: Room, moves: Moves, among: set[str]) -> set[str]:
    """Those who are joined."""
    stayed = _joined(room, among) - moves.people.keys()
    return stayed | {user for user in moves.people.keys() & among if moves.people[user].now}


def _joined(room: Room, among: set[str]) -> set[str]:
    return {user for user in room.members.keys() & among if room.members[UserId(user)].membership == JOIN}
