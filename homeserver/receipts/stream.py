"""Receipts in `/sync`: `m.receipt`, batched per room.

spec: client-server-api/#mreceipt (EPH-02, EPH-04, SYNC-17)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from homeserver.log.entries import Entry
from homeserver.receipts import store
from homeserver.receipts.store import Row
from homeserver.receipts.threads import MAIN
from homeserver.receipts.types import NAMES, PRIVATE, UNTHREADED, ReceiptEntry
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
        for row in sorted(await self._rows(request, rooms), key=_reach):
            if row.user_id in request.ignored:
                continue
            seen: dict[str, Any] = {"ts": row.ts_ms}
            if row.thread != UNTHREADED:
                seen["thread_id"] = row.thread
            content = by_room.setdefault(row.room_nid, {})
            content.setdefault(row.event_id, {}).setdefault(NAMES[row.type], {})[row.user_id] = seen
        return {room: {"type": RECEIPT, "content": content} for room, content in by_room.items()}

    async def _rows(self, request: SyncRequest, rooms: JoinedRooms) -> list[Row]:
        reader = request.requester.user_nid
        if request.since is None:
            async with self._db.read() as tx:
                return await store.find_changes(tx, list(rooms.joined_nids), reader, 0, request.upto)
        if request.recent is None:
            async with self._db.read() as tx:
                found = await store.find_changes(
                    tx, list(rooms.joined_nids), reader, request.since, request.upto
                )
        else:
            found = [
                Row(e.room_nid, e.user_nid, e.user_id, e.type, e.thread, e.event_id, e.ts_ms)
                for _, e in request.recent.of(ReceiptEntry)
                if e.room_nid in rooms.joined_nids and (e.type != PRIVATE or e.user_nid == reader)
            ]
        if rooms.new:
            async with self._db.read() as tx:
                found = [*await store.find_changes(tx, list(rooms.new), reader, 0, request.since), *found]
        # Of each (room, user, type, thread) only the last counts.
        return list({(r.room_nid, r.user_nid, r.type, r.thread): r for r in found}.values())


def _reach(row: Row) -> int:
    return 2 if row.thread == UNTHREADED else 1 if row.thread == MAIN else 0
