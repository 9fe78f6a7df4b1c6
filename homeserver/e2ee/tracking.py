"""Device lists: whose a user follows, and whose have changed, come into sight or gone out of it between two positions.

spec: client-server-api/#tracking-the-device-list-for-a-user (E2E-11, E2E-12, SYNC-19)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from homeserver.e2ee import store, tracking_store
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.e2ee.tracking_store import MemberRow
from homeserver.events.packing import unpack
from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.interning import Interning
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms.memberships import Memberships
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.web.auth import Requester

ENCRYPTION = ("m.room.encryption", "")


class DeviceLists(NamedTuple):
    """The answer's `device_lists`."""

    changed: set[str]
    left: set[str]


class _Moves(NamedTuple):
    """What happened to memberships and encryption in rooms of the user."""

    joined: dict[int, set[str]]
    """room_nid -> users who came (others than the reader)."""
    gone: dict[int, set[str]]
    """room_nid -> users who went."""
    own_joins: set[int]
    """Rooms the reader came into."""
    own_leaves: set[int]
    encrypted: set[int]
    """Rooms that became encrypted."""


class DeviceTracking:
    """One per process."""

    def __init__(self, db: Database, rooms: Rooms, memberships: Memberships, interning: Interning) -> None:
        self._db = db
        self._rooms = rooms
        self._memberships = memberships
        self._interning = interning

    async def between(
        self, requester: Requester, since: Position, upto: Position, recent: LogSlice | None
    ) -> DeviceLists:
        """Changes in (since, upto]. Without changes of memberships, keys or encryption nothing is read."""
        mine = (await self._memberships.of(requester.user_nid)).joined
        if recent is not None:
            changed = await self._changed_in(requester, recent, mine)
            moves = _moves(recent, requester, mine)
        else:
            async with self._db.read() as tx:
                rows = await store.find_changed_users(tx, requester.user_nid, since, upto)
                members = await tracking_store.find_member_changes(
                    tx, requester.user_nid, list(mine), since, upto
                )
                encrypted = await tracking_store.find_newly_encrypted(tx, list(mine), since, upto)
            changed = {user_id for _, user_id in rows}
            moves = _moves_of_rows(members, requester, set(encrypted))
        changed |= await self._came_into_sight(requester, moves)
        left = await self._out_of_sight(requester, moves, mine)
        return DeviceLists(changed - left, left)

    async def _changed_in(self, requester: Requester, recent: LogSlice, mine: frozenset[int]) -> set[str]:
        """Users whose keys changed and whom the reader shares a room with; the reader too."""
        found: set[str] = set()
        for _, entry in recent.of(DeviceListEntry):
            if requester.user_nid == (entry.user_nid if entry.seen_by is None else entry.seen_by):
                found.add(entry.user_id)
            elif entry.seen_by is None and entry.user_id not in found:
                theirs = await self._memberships.of(entry.user_nid)
                if not mine.isdisjoint(theirs.with_membership(JOIN)):
                    found.add(entry.user_id)
        return found

    async def _came_into_sight(self, requester: Requester, moves: _Moves) -> set[str]:
        """Users with whom the reader now shares an encrypted room."""
        found: set[str] = set()
        touched = {*moves.joined, *moves.own_joins, *moves.encrypted}
        if not touched:
            return found
        for nid, room in (await self._rooms.get_many(touched)).items():
            if ENCRYPTION not in room.state or room.membership(requester.user_id) != JOIN:
                continue
            if nid in moves.own_joins or nid in moves.encrypted:
                found.update(room.users_with(JOIN))
            found.update(user for user in moves.joined.get(nid, ()) if room.membership(UserId(user)) == JOIN)
        found.discard(requester.user_id)
        return found

    async def _out_of_sight(self, requester: Requester, moves: _Moves, mine: frozenset[int]) -> set[str]:
        """Users who went (or whom the reader left) and with whom no encrypted room is shared any more."""
        gone: set[str] = set().union(*moves.gone.values()) if moves.gone else set()
        if moves.own_leaves:
            for room in (await self._rooms.get_many(moves.own_leaves)).values():
                if ENCRYPTION in room.state:
                    gone.update(room.users_with(JOIN))
        gone.discard(requester.user_id)
        if not gone:
            return gone
        encrypted = {
            nid for nid, room in (await self._rooms.get_many(mine)).items() if ENCRYPTION in room.state
        }
        nids = await self._interning.find_user_nids([UserId(user) for user in gone])
        still: set[str] = set()
        for user, nid in nids.items():
            theirs = await self._memberships.of(nid)
            if not encrypted.isdisjoint(theirs.with_membership(JOIN)):
                still.add(user)
        return gone - still


def _moves(recent: LogSlice, requester: Requester, mine: frozenset[int]) -> _Moves:
    moves = _Moves({}, {}, set(), set(), set())
    for _, entry in recent.moving:
        room = entry.persisted.room_nid
        for change in entry.changes:
            if change.key == ENCRYPTION and room in mine:
                moves.encrypted.add(room)
            elif change.user_nid is not None and not _stayed(entry, change):
                _note(moves, room, change.key[1], change.membership, requester, mine)
    return moves


def _stayed(entry: EventEntry, change: StateChange) -> bool:
    """Whether a membership event says nothing but that a member has another name or picture."""
    before = entry.persisted.replaced
    own = (
        before is not None and change.ref is not None and change.ref.event_id == entry.persisted.ref.event_id
    )
    return bool(own and before and change.membership == JOIN and _says_join(before.content))


def _says_join(content: bytes) -> bool:
    found = json.loads(content)
    return isinstance(found, Mapping) and found.get("membership") == "join"


def _moves_of_rows(rows: Iterable[MemberRow], requester: Requester, encrypted: set[int]) -> _Moves:
    moves = _Moves({}, {}, set(), set(), encrypted)
    for room, user_id, membership, before in rows:
        if (
            membership == JOIN
            and before is not None
            and json.loads(unpack(before, RoomId("")))["content"].get("membership") == "join"
        ):
            continue
        _note(moves, room, user_id, membership, requester, None)
    return moves


def _note(  # noqa: PLR0917  # one value each, called in one place
    moves: _Moves,
    room: int,
    user_id: str,
    membership: int | None,
    requester: Requester,
    mine: frozenset[int] | None,
) -> None:
    if user_id == requester.user_id:
        (moves.own_joins if membership == JOIN else moves.own_leaves).add(room)
    elif mine is None or room in mine:
        (moves.joined if membership == JOIN else moves.gone).setdefault(room, set()).add(user_id)
