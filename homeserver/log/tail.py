"""The tail follows the log in this process, in order: it feeds the projections and keeps the recent entries.

Own batches come directly from the writer; those of other processes are read from the feed, on a NOTIFY (a hint) and once
a second (so that a lost hint costs a second, never correctness). A process that fell behind the feed drops its projections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import structlog

from homeserver.log import store
from homeserver.log.entries import Checked, Entry, Position, Sink, Written
from homeserver.log.restore import Break, Breaks
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

log = structlog.get_logger(__name__)

RECENT_ENTRIES = 20_000
"""Entries kept in memory for readers that are nearly up to date."""
READ_AT_ONCE = 2_000
MAX_LAG = 50_000
"""Positions behind which catching up costs more than starting anew."""
POLL_SECONDS = 1.0


class Projection(Protocol):
    """In-memory state derived from the log; knows nothing it could not rebuild."""

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        """What to call for each entry of a type; must not block or raise."""
        ...

    def reset(self) -> None:
        """Forget everything: entries were missed."""
        ...


class Tail:
    """One per process. `position` is the last entry that every projection has seen."""

    def __init__(self, db: Database, sinks: Sequence[Sink[Any]], *, alone: bool) -> None:
        """`alone`: no other process serves from this database, so what is in memory is always current."""
        self._db = db
        self._sinks = {sink.entry_type: sink for sink in sinks}
        self._by_kind = {sink.kind: sink for sink in sinks}
        self.checked_sinks: list[Checked] = [sink for sink in sinks if isinstance(sink, Checked)]
        self._projections: list[Projection] = []
        self._handlers: dict[type[Entry], list[Callable[[Position, Any], None]]] = defaultdict(list)
        self._after_batch: list[Callable[[Sequence[Written[Any]]], None]] = []
        self._lock = asyncio.Lock()
        self._hint = asyncio.Event()
        self._own: dict[Position, Written[Any]] = {}
        self.alone = alone
        """Whether no other process serves from this database (a command may still write, and says so)."""
        self._refresh: asyncio.Task[None] | None = None
        self._recent: deque[Written[Any]] = deque()
        self._breaks = Breaks()
        self.position: Position = 0

    # --- wiring --------------------------------------------------------------------------------------------------

    def sink_for(self, entry_type: type[Entry]) -> Sink[Any]:
        return self._sinks[entry_type]

    def attach(self, projection: Projection) -> None:
        """Feed a projection from now on; handlers run in the order of attachment."""
        self._projections.append(projection)
        for entry_type, handler in projection.handlers().items():
            self._handlers[entry_type].append(handler)

    def after_batch(self, call: Callable[[Sequence[Written[Any]]], None]) -> None:
        """Call once per applied batch, after all projections (waking waiters)."""
        self._after_batch.append(call)

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def floor(self) -> Position:
        """`since(p)` can be answered from memory for p >= floor."""
        return self._recent[0].position - 1 if self._recent else self.position

    def since(self, position: Position) -> Iterator[Written[Any]]:
        """Entries in (position, self.position], in order; only for position >= floor."""
        newest_first = list(islice(reversed(self._recent), max(0, self.position - position)))
        newest_first.reverse()
        return iter(newest_first)

    def lost(self, position: Position) -> Position | None:
        """What a position counts as that a restore has cut off; None: it is good. See `log.restore`."""
        return self._breaks.lost(position)

    async def fresh(self) -> None:
        """Wait until everything committed before this call, by any process, is seen here."""
        if self.alone:
            return
        # A read under way may have begun before the write we must see: wait for one that begins after now. How the one
        # before ended is not our business: if the database was away then, it may be back.
        if self._refresh is not None:
            await asyncio.wait([self._refresh])
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._catch_up())
        await asyncio.shield(self._refresh)

    async def reach(self, position: Position) -> None:
        """See everything up to a position that is known to be committed."""
        async with self._lock:
            if position > self.position:
                await self._read_upto(position)

    # --- following -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin at the head; nothing before it is in memory."""
        async with self._db.read() as tx:
            self.position = await store.read_head(tx)
            self._breaks = await _breaks(tx)

    def expect(self, written: Sequence[Written[Any]]) -> None:
        """This process is about to commit these. Should the feed bring them before `publish` does, they are taken from
        here: decoded once more they would be strangers to those who wait for them.
        """
        self._own = {item.position: item for item in written}

    async def publish(self, written: Sequence[Written[Any]]) -> None:
        """Take a batch this process has just committed; first what others wrote before it."""
        if not written:
            return
        async with self._lock:
            if written[0].position > self.position + 1:
                await self._read_upto(written[0].position - 1)
            fresh = [item for item in written if item.position > self.position]
            if fresh:
                self._apply(fresh)
            self._own = {}

    def hint(self, position: Position | None = None) -> None:
        """Somebody has written, up to `position` if that is known. We hear of our own writes as well; `publish` brings them."""
        if position is None or (position > self.position and position not in self._own):
            self._hint.set()

    async def run(self) -> None:
        """Follow what other processes write, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), POLL_SECONDS)
            self._hint.clear()
            try:
                await self._catch_up()
            except Exception as error:  # noqa: BLE001  # whatever it was, the log goes on
                log.warning("tail.read_failed", error=repr(error))

    async def _catch_up(self) -> None:
        async with self._lock:
            async with self._db.read() as tx:
                head = await store.read_head(tx)
            if head > self.position:
                await self._read_upto(head)

    async def _read_upto(self, upto: Position) -> None:
        if upto - self.position > MAX_LAG:
            async with self._db.read() as tx:
                self._breaks = await _breaks(tx)
            self._reset(upto, "lag")
            return
        while self.position < upto:
            async with self._db.read() as tx:
                rows = await store.read_feed(tx, self.position, upto, READ_AT_ONCE)
                if not rows or rows[0][0] != self.position + 1 or rows[-1][0] - rows[0][0] != len(rows) - 1:
                    self._reset(upto, "gap")
                    return
                written = await self._decode(tx, rows)
            self._apply(written)

    async def _decode(self, tx: Any, rows: list[tuple[Position, str, bytes]]) -> list[Written[Any]]:
        by_kind: dict[str, list[tuple[Position, bytes]]] = defaultdict(list)
        written: list[Written[Any]] = []
        for position, kind, payload in rows:
            if (own := self._own.get(position)) is not None:
                written.append(own)
            else:
                by_kind[kind].append((position, payload))
        for kind, items in by_kind.items():
            written += await self._by_kind[kind].decode(tx, items)
        written.sort(key=lambda item: item.position)
        return written

    def _apply(self, written: Sequence[Written[Any]]) -> None:
        for position, entry in written:
            for handler in self._handlers[type(entry)]:
                try:
                    handler(position, entry)
                except Exception:
                    log.exception("tail.projection_failed", position=position, entry=type(entry).__name__)
        self._recent.extend(written)
        while len(self._recent) > RECENT_ENTRIES:
            self._recent.popleft()
        self.position = written[-1].position
        for call in self._after_batch:
            call(written)

    def _reset(self, position: Position, why: str) -> None:
        """Entries were missed: forget everything derived and go on from `position`."""
        log.warning("tail.reset", why=why, position=position, was=self.position)
        for projection in self._projections:
            projection.reset()
        self._recent.clear()
        self.position = position
        for call in self._after_batch:
            call(())


async def _breaks(tx: Tx) -> Breaks:
    return Breaks([Break(*each) for each in await store.find_breaks(tx)])
