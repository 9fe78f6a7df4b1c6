"""Whose device lists a client has to look at anew, and whose no longer.

spec: client-server-api/#tracking-the-device-list-for-a-user (E2E-11, E2E-12, SYNC-19)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from homeserver.e2ee import store, tracking_store
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.e2ee.sharing import (
    ENCRYPTION,
    MEMBER,
    Difference,
    Moves,
    Then,
    Touched,
    difference,
    moves_in,
    touched_rooms,
    without_sharers,
)
from homeserver.graph.interning import Interning
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.turns import in_turns
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.sync.log_slice import LogSlice
from homeserver.web.auth import Requester

MAX_LOOKED_UP = 8
"""People whose rooms are looked up one by one; beyond, one query tells whom the reader shares a room with."""


class DeviceLists(NamedTuple):
    """The answer's `device_lists`."""

    changed: set[str]
    left: set[str]


class _Seen(NamedTuple):
    """What has happened between two positions in the rooms of a reader."""

    moves: Mapping[int, Moves]
    """room_nid of a room the reader was or is in -> what has happened there."""
    others: Collection[int]
    """room_nids of rooms the reader was in all the time, and where nothing has happened."""


class DeviceTracking:
    """Works out whose device lists changed and left between two positions. Keeps nothing in memory."""

    def __init__(self, db: Database, rooms: Rooms, memberships: Memberships, interning: Interning) -> None:
        self._db = db
        self._rooms = rooms
        self._memberships = memberships
        self._interning = interning

    async def between(
        self, requester: Requester, since: Position, upto: Position, recent: LogSlice | None
    ) -> DeviceLists:
        """Changes in (since, upto]. Without changes of memberships, keys or encryption nothing is read.

        `recent`: the entries between, if memory reaches back that far.
        """
        if upto <= since:
            return DeviceLists(set(), set())
        mine = (await self._memberships.of(requester.user_nid)).joined
        seen = await self._from_memory(requester, recent, mine) if recent is not None else None
        if recent is not None and self._few_strangers(recent):
            changed = await self._changed_in(requester, recent, mine)
        else:
            async with self._db.read() as tx:
                rows = await store.find_changed_users(tx, requester.user_nid, since, upto)
            changed = {user_id for _, user_id in rows}
        if seen is None:
            seen = await self._from_database(requester, since, upto)
        gained, lost = await self._difference(requester, seen)
        return DeviceLists((changed | gained) - lost, lost)

    def _few_strangers(self, recent: LogSlice) -> bool:
        """Whether it is known in which rooms those are whose keys changed, but for some: each of them costs a query."""
        users = {entry.user_nid for _, entry in recent.of(DeviceListEntry) if entry.seen_by is None}
        return sum(self._memberships.cached(user) is None for user in users) <= MAX_LOOKED_UP

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

    async def _difference(self, requester: Requester, seen: _Seen) -> Difference:
        """With whom the reader shares an encrypted room now and did not, and the other way round."""
        if not seen.moves:
            return Difference(set(), set())
        found = await difference(seen.moves, await self._rooms.get_many(seen.moves), requester.user_id)
        if not found.gained and not found.lost:
            return found
        return await without_sharers(found, (await self._rooms.get_many(seen.others)).values())

    async def _from_memory(
        self, requester: Requester, recent: LogSlice, mine: frozenset[int]
    ) -> _Seen | None:
        """None if the entries do not tell."""
        touched: dict[int, Touched] | None = recent.shared.get(DeviceTracking)
        if touched is None:
            touched = recent.shared[DeviceTracking] = touched_rooms(recent.moving)
        if requester.user_nid in recent.moved:
            own = (MEMBER, requester.user_id)
            here = mine | {nid for nid, each in touched.items() if each.unclear or own in each.changed}
        else:
            here = mine
        relevant = {
            nid: each for nid, each in touched.items() if nid in here and (each.changed or each.unclear)
        }
        if any(each.unclear for each in relevant.values()):
            return None
        rooms = await self._rooms.get_many(relevant)
        moves = {nid: moves_in(each, rooms[nid], requester.user_id) for nid, each in relevant.items()}
        return _Seen(moves, mine - moves.keys())

    async def _from_database(self, requester: Requester, since: Position, upto: Position) -> _Seen:
        """The same for any two positions. Five queries in four flights."""
        key_nid = (await self._interning.find_key_nids([ENCRYPTION])).get(ENCRYPTION)
        if key_nid is None:
            return _Seen({}, frozenset())
        async with self._db.read() as tx:
            async with tx.pipeline() as batch:
                before = tracking_store.find_joined(batch, requester.user_nid, since)
                after = tracking_store.find_joined(batch, requester.user_nid, upto)
            was_in, is_in = [
                {room for room, membership in rows.result if membership == JOIN} for rows in (before, after)
            ]
            was_on, is_on = (
                await _encrypted(tx, was_in, since, key_nid),
                await _encrypted(tx, is_in, upto, key_nid),
            )
            async with tx.pipeline() as batch:
                rows = tracking_store.find_moves(batch, was_on | is_on, since, upto)
        people: dict[int, dict[str, Then]] = {nid: {} for nid in was_on ^ is_on}
        async for some in in_turns(rows.result):
            for room, user_id, was, now in some:
                people.setdefault(room, {})[user_id] = Then(was, now)
        moves = {nid: Moves(Then(nid in was_on, nid in is_on), moved) for nid, moved in people.items()}
        return _Seen(moves, (was_on & is_on) - moves.keys())


async def _encrypted(tx: Tx, rooms: Collection[int], at: Position, key_nid: int) -> set[int]:
    async with tx.pipeline() as batch:
        rows = tracking_store.find_encrypted(batch, rooms, key_nid, at)
    return {room for (room,) in rows.result}
