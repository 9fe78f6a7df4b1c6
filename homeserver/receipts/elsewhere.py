"""Receipts of other servers' users. One for an event that is not here yet waits for it, for a while and in memory.

spec: server-server-api/#receipts (FED-35)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import structlog

from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Conflict, Entry, Position
from homeserver.log.keyed_locks import ATTEMPTS
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import EventId
from homeserver.receipts import store
from homeserver.receipts.threads import thread_of
from homeserver.receipts.types import READ, UNTHREADED, ReceiptEntry, RemoteReceipt
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.receipts")

MAX_WAITING: Final = 10_000
"""Receipts of events that are not here; the oldest make room."""
EVERY: Final = 60.0
"""Seconds between looks whether events have come, besides being woken."""


class _Waiting(NamedTuple):
    room: Room
    receipt: RemoteReceipt


class RemoteReceipts:
    """Takes receipts, and owns those that wait; a projection, to hear when their events have come."""

    def __init__(self, db: Database, log: LogWriter, events: EventCache, clock: Clock) -> None:
        self._db = db
        self._log = log
        self._events = events
        self._clock = clock
        self._waiting: OrderedDict[tuple[str, int], _Waiting] = OrderedDict()
        """(event_id, user_nid) -> receipt."""
        self._wanted: dict[str, int] = {}
        """event_id -> how many wait for it."""
        self._come: list[_Waiting] = []
        self.wake = asyncio.Event()
        """Set when an event has come that receipts waited for."""

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._apply}

    def reset(self) -> None:
        """They wait on; what has come meanwhile is missed."""

    def _apply(self, _: Position, entry: EventEntry) -> None:
        event_id = entry.persisted.event.event_id
        if event_id in self._wanted:
            keys = [key for key in self._waiting if key[0] == event_id]
            self._come += [self._taken(key) for key in keys]
            self.wake.set()

    async def hear(self, room: Room, receipts: Sequence[RemoteReceipt]) -> None:
        """Write those that are news. Raises what the database says."""
        places = await self._events.places([EventId(each.event_id) for each in receipts])
        here: list[tuple[RemoteReceipt, int]] = []
        for receipt in receipts:
            place = places.get(EventId(receipt.event_id))
            if place is None:
                self._wait(room, receipt)
            elif place.room_nid == room.name.nid and place.nid > 0:
                here.append((receipt, place.nid))
        entries = {}
        for receipt, nid in here:
            entry = await self._entry(room, receipt, nid)
            if entry is not None:
                entries[entry.user_nid, entry.thread] = entry
        await self._write(list(entries.values()))

    async def tick(self) -> None:
        """Once: write those whose events have come. Raises what the database says; then they are written by the next tick."""
        come, self._come = self._come, []
        by_room: dict[int, list[_Waiting]] = {}
        for each in come:
            by_room.setdefault(each.room.name.nid, []).append(each)
        try:
            for waiting in by_room.values():
                await self.hear(waiting[0].room, [each.receipt for each in waiting])
        except BaseException:
            self._come = [*come, *self._come][-MAX_WAITING:]  # written twice they are written once
            raise

    def _wait(self, room: Room, receipt: RemoteReceipt) -> None:
        key = (receipt.event_id, receipt.user_nid)
        if key in self._waiting:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._taken(next(iter(self._waiting)))
        self._waiting[key] = _Waiting(room, receipt)
        self._wanted[receipt.event_id] = self._wanted.get(receipt.event_id, 0) + 1

    def _taken(self, key: tuple[str, int]) -> _Waiting:
        left = self._wanted[key[0]] - 1
        if left:
            self._wanted[key[0]] = left
        else:
            del self._wanted[key[0]]
        return self._waiting.pop(key)

    async def _entry(self, room: Room, receipt: RemoteReceipt, nid: int) -> ReceiptEntry | None:
        """None where the event is not in that thread: rows of threads that there are not would have no bound."""
        thread = receipt.thread or UNTHREADED
        if receipt.thread is not None:
            persisted = await self._events.one(nid)
            if persisted is None:
                return None
            if thread not in {await thread_of(persisted.event, self._events), receipt.event_id}:
                return None
        ts_ms = min(max(receipt.ts_ms, 0), self._clock.now_ms())
        return ReceiptEntry(
            room.name.nid, receipt.user_nid, receipt.user_id, READ, thread, nid, receipt.event_id, ts_ms
        )

    async def _write(self, entries: list[ReceiptEntry]) -> None:
        if not entries:
            return
        for _ in range(ATTEMPTS):
            async with self._db.read() as tx, tx.pipeline() as batch:
                found = store.find_events(
                    batch, [(e.room_nid, e.user_nid, e.type, e.thread) for e in entries]
                )
            read = {(user, thread): nid for _, user, _, thread, nid in found.result}
            entries = [e for e in entries if e.event_nid > read.get((e.user_nid, e.thread), 0)]
            if not entries:
                return
            try:
                await self._log.append(*entries)
            except Conflict:
                continue
            return
        _log.info("receipts_outdated", receipts=len(entries))
