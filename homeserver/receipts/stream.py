"""Receipts in `/sync`: `m.receipt`, batched per room.

spec: client-server-api/#mreceipt (EPH-02, EPH-04, SYNC-17)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from typing_extensions import override

from homeserver.log.entries import Entry, Position
from homeserver.receipts import store
from homeserver.receipts.store import Row
from homeserver.receipts.threads import MAIN
from homeserver.receipts.types import NAMES, PRIVATE, UNTHREADED, ReceiptEntry
from homeserver.runtime.turns import Steps, in_turns, next_turn, pieces
from homeserver.storage.database import Database
from homeserver.sync.ephemeral import EphemeralSource
from homeserver.sync.types import JoinedRooms, Recipients, SyncRequest

RECEIPT = "m.receipt"


class ReceiptSource(EphemeralSource):
    """Receipts for the ephemeral stream of `/sync`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @override
    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        def of(entry: ReceiptEntry) -> Recipients:
            return Recipients((entry.user_nid,)) if entry.type == PRIVATE else Recipients((), entry.room_nid)

        return {ReceiptEntry: of}

    @override
    async def events(self, request: SyncRequest, rooms: JoinedRooms) -> dict[int, dict[str, Any]]:
        """room_nid -> m.receipt event."""
        if not request.filter.room.ephemeral.matches_parts(RECEIPT, None):
            return {}
        by_room: dict[int, dict[str, Any]] = {}
        # At one event m.receipt tells one receipt of each user: the one for all threads rather than one for the main
        # timeline, which it includes, and that rather than one for a thread.
        by_reach: tuple[list[Row], ...] = ([], [], [])
        for row in await self._rows(request, rooms):
            by_reach[_reach(row)].append(row)
        steps = Steps(store.ROWS_AT_ONCE)
        for some in (some for rows in by_reach for some in pieces(rows, store.ROWS_AT_ONCE)):
            if steps.full(len(some)):
                await next_turn()
            _tell(by_room, (row for row in some if row.user_id not in request.ignored))
        return {room: {"type": RECEIPT, "content": content} for room, content in by_room.items()}

    async def _rows(self, request: SyncRequest, rooms: JoinedRooms) -> list[Row]:
        reader = request.requester.user_nid
        if request.since is None:
            return await self._changes(rooms.joined_nids, reader, 0, request.upto)
        if request.recent is None:
            found = await self._changes(rooms.joined_nids, reader, request.since, request.upto)
        else:
            found = [
                Row(e.room_nid, e.user_nid, e.user_id, e.type, e.thread, e.event_id, e.ts_ms)
                for _, e in request.recent.of(ReceiptEntry)
                if e.room_nid in rooms.joined_nids and (e.type != PRIVATE or e.user_nid == reader)
            ]
        if rooms.new:
            found = [*await self._changes(rooms.new, reader, 0, request.since), *found]
        # Of each (room, user, type, thread) only the last counts.
        return list({(r.room_nid, r.user_nid, r.type, r.thread): r for r in found}.values())

    async def _changes(
        self, room_nids: Collection[int], reader: int, since: Position, upto: Position
    ) -> list[Row]:
        async with self._db.read() as tx, tx.pipeline() as batch:
            rows = store.find_changes(batch, room_nids, reader, since, upto)
        found: list[Row] = []
        async for some in in_turns(rows.result):
            found += map(Row._make, some)
        return found


def _tell(by_room: dict[int, dict[str, Any]], rows: Iterable[Row]) -> None:
    """Write receipts down, room_nid -> content of m.receipt; of each user at an event the last one stays."""
    for row in rows:
        seen: dict[str, Any] = {"ts": row.ts_ms}
        if row.thread != UNTHREADED:
            seen["thread_id"] = row.thread
        content = by_room.setdefault(row.room_nid, {})
        content.setdefault(row.event_id, {}).setdefault(NAMES[row.type], {})[row.user_id] = seen


def _reach(row: Row) -> int:
    return 2 if row.thread == UNTHREADED else 1 if row.thread == MAIN else 0
