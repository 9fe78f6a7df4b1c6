"""What each room is to the user in this sync."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.interning import Interning
from homeserver.graph.refs import BAN, INVITE, JOIN, LEAVE, MEMBERSHIPS
from homeserver.graph.stored import Stored
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.sync.rooms import store
from homeserver.sync.types import Ask


class Classified(NamedTuple):
    """room_nids by what they are."""

    joined: frozenset[int]
    new: frozenset[int]
    """Joined, and the client knows nothing of them yet."""
    left: dict[int, Position]
    """Left or banned, to be reported; position of the event with which it happened."""
    invited: list[int]
    knocked: list[int]


class Classifier:
    """One per process."""

    def __init__(self, db: Database, interning: Interning) -> None:
        self._db = db
        self._interning = interning

    async def classify(self, ask: Ask) -> Classified:
        """Sort the user's rooms. At most one query beside naming rooms for a filter that names some."""
        if _same_memberships(ask):
            return Classified(await self._joined(ask), frozenset(), {}, [], [])
        wanted = await self._wanted(ask)
        changed = {
            room for room in wanted if ask.since is not None and ask.memberships[room].position > ask.since
        }
        before = await self._before(ask, changed)
        joined: set[int] = set()
        new: set[int] = set()
        left: dict[int, Position] = {}
        invited: list[int] = []
        knocked: list[int] = []
        for room in wanted:
            own = ask.memberships[room]
            initial = ask.since is None
            if own.membership == JOIN:
                joined.add(room)
                if initial or (room in changed and before.get(room) != JOIN):
                    new.add(room)
            elif own.forgotten and (initial or room not in changed):
                continue  # but that it was left is told to every device, also if it was forgotten before they asked
            elif own.membership in (LEAVE, BAN):
                # spec: op:sync: in an initial sync only with include_leave (SYNC-14)
                if (initial and ask.filter.room.include_leave) or room in changed:
                    left[room] = own.position
            elif initial or room in changed or ask.full_state or ask.other_invites:
                (invited if own.membership == INVITE else knocked).append(room)
        return Classified(frozenset(joined), frozenset(new), left, invited, knocked)

    async def _joined(self, ask: Ask) -> frozenset[int]:
        if ask.filter.room.rooms is None and not ask.filter.room.not_rooms:
            return ask.joined
        return ask.joined.intersection(await self._wanted(ask))

    async def _wanted(self, ask: Ask) -> list[int]:
        rooms = list(ask.memberships)
        if ask.filter.room.rooms is None and not ask.filter.room.not_rooms:
            return rooms
        names = await self._interning.rooms(rooms)
        return [room for room in rooms if room in names and ask.filter.room.wants_room(names[room].room_id)]

    async def _before(self, ask: Ask, changed: set[int]) -> dict[int, int]:
        """The user's membership at `since` in rooms where it has changed."""
        if not changed or ask.since is None:
            return {}
        if ask.recent is None:
            async with self._db.read() as tx:
                return await store.memberships_at(tx, ask.requester.user_nid, changed, ask.since)
        found: dict[int, int] = {}
        seen: set[int] = set()
        resolved: set[int] = set()
        for _, entry in ask.recent.moving:
            room = entry.stored.room_nid
            if room not in changed or room in seen:
                continue
            if any(change.user_nid == ask.requester.user_nid for change in entry.changes):
                seen.add(room)
                if any(change.user_nid == ask.requester.user_nid for change in entry.by_resolution):
                    resolved.add(room)  # no event says what was before
                    continue
                replaced = entry.stored.replaced
                content = json.loads(replaced.content) if replaced else {}
                found[room] = MEMBERSHIPS.get(str(content.get("membership")), 0)
        if resolved:
            async with self._db.read() as tx:
                found |= await store.memberships_at(tx, ask.requester.user_nid, resolved, ask.since)
        return found


def ends_stay(stored: Stored | None, user_id: UserId) -> bool:
    """Whether with this event the user, who was a member until then, left or was banned."""
    if stored is None or stored.event.key != ("m.room.member", user_id) or stored.replaced is None:
        return False
    return bool(json.loads(stored.replaced.content).get("membership") == "join")


def _same_memberships(ask: Ask) -> bool:
    """Whether the user's rooms are to the client what they were at `since`, as far as memory reaches."""
    if ask.recent is None or ask.full_state or ask.other_invites:
        return False
    return ask.requester.user_nid not in ask.recent.moved
