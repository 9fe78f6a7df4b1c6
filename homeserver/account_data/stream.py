"""Account data in `/sync`.

spec: op:sync `account_data` (SYNC-17)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from homeserver.account_data import store
from homeserver.account_data.entries import GLOBAL, AccountDataEntry
from homeserver.account_data.store import Row
from homeserver.log.entries import Entry
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.sync.types import JoinedRooms, Part, Recipients, SyncRequest

Make = Callable[[int, UserId], Awaitable[bytes]]
"""(user_nid, user_id) -> content as JSON."""


class AccountDataStream:
    """The account data stream of `/sync`. Owns the list of types that every user has without having stored them."""

    always_asked = False

    def __init__(self, db: Database) -> None:
        self._db = db
        self._always: dict[str, Make] = {}

    def always(self, kind: str, make: Make) -> None:
        """Data that every user has, also those for whom none was ever stored: made when a client starts anew."""
        self._always[kind] = make

    async def default(self, kind: str, user_nid: int, user_id: UserId) -> bytes | None:
        """Content of such data for a user for whom none was stored; None if there is no such kind."""
        make = self._always.get(kind)
        return None if make is None else await make(user_nid, user_id)

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {AccountDataEntry: lambda entry: Recipients((entry.user_nid,))}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        rows = await self._rows(request, rooms)
        part = Part()
        if not rows:
            return part
        top = [row for row in rows if row.room_nid == GLOBAL]
        events = [_event(r) for r in top if request.filter.account_data.matches_parts(r.type, None)]
        if events:
            part.top["account_data"] = _events(events)
        by_room: dict[int, list[bytes]] = {}
        wanted = request.filter.room.account_data
        for row in rows:
            if row.room_nid in rooms.joined_nids and wanted.matches_parts(row.type, None):
                by_room.setdefault(row.room_nid, []).append(_event(row))
        part.rooms = {room: {"account_data": _events(found)} for room, found in by_room.items()}
        return part

    async def _rows(self, request: SyncRequest, rooms: JoinedRooms) -> list[Row]:
        user_nid = request.requester.user_nid
        if request.since is None:
            async with self._db.read() as tx:
                found = await store.find_changes(tx, user_nid, 0, request.upto)
            there = {row.type for row in found if row.room_nid == GLOBAL}
            for kind, make in self._always.items():
                if kind not in there:
                    found.append(Row(GLOBAL, kind, await make(user_nid, request.requester.user_id)))
            return found
        if request.recent is not None:
            mine = (e for _, e in request.recent.of(AccountDataEntry) if e.user_nid == user_nid)
            found = _last(Row(e.room_nid, e.type, e.content) for e in mine)
        else:
            async with self._db.read() as tx:
                found = await store.find_changes(tx, user_nid, request.since, request.upto)
        if rooms.new:  # everything about a room that is new to the client
            async with self._db.read() as tx:
                found = _last([*await store.find_of_rooms(tx, user_nid, list(rooms.new)), *found])
        return found


def _last(rows: Iterable[Row]) -> list[Row]:
    """Of each type the last, in order."""
    return list({(row.room_nid, row.type): row for row in rows}.values())


def _event(row: Row) -> bytes:
    return b'{"type":%b,"content":%b}' % (json.dumps(row.type), row.content)


def _events(events: list[bytes]) -> bytes:
    return b'{"events":[%b]}' % b",".join(events)
