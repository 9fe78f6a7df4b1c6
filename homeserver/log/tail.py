"""The tail follows the log in this process, in order: it feeds the projections and keeps the recent entries.

Own batches come directly from the writer; those of other processes are read from the feed, on a NOTIFY (a hint) and once
a second (so that a lost hint costs a second, never correctness). A process that fell behind the feed drops its projections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

import psycopg
import structlog

from homeserver.log import store
from homeserver.log.entries import Checked, Entry, Position, Sink, Unknown, Written
from homeserver.log.neighbours import Neighbours
from homeserver.log.restore import Break, Breaks
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Tx

log = structlog.get_logger(__name__)

RECENT_ENTRIES = 20_000
"""Entries kept in memory for readers that are nearly up to date."""
RECENT_BYTES = 40 * 1024 * 1024
"""What those may take, roughly."""
READ_AT_ONCE = 2_000
MAX_LAG = 50_000
"""Positions behind which catching up costs more than starting anew."""
POLL_SECONDS = 1.0
SOON = 0.5
"""Seconds in which what another process of this host has seen comes from there; else the database is asked."""


Handler = Callable[[Position, Any], None]


class Narrowed(NamedTuple):
    """A handler that need not hear of all entries of a type. All that are narrowed of one type have the same `when`."""

    call: Handler
    when: Callable[[Any], bool]
    """Asked once for each entry, however many handlers there are."""


class Projection(Protocol):
    """In-memory state derived from the log; knows nothing it could not rebuild."""

    def handlers(self) -> Mapping[type[Entry], Handler | Narrowed]:
        """What to call for each entry of a type; must not block. One that raises has its projection reset."""
        ...

    def reset(self) -> None:
        """Forget everything: entries were missed."""
        ...


_Handler = tuple[Projection, Handler]


@dataclass(slots=True)
class _Handlers:
    """Of one type of entry, in the order of attachment."""

    all: list[_Handler] = field(default_factory=list)
    plain: list[_Handler] = field(default_factory=list)
    """Without the narrowed ones."""
    when: Callable[[Any], bool] | None = None


class Tail:
    """Owns the projections of this process and its recent log. `position` is the last entry that every projection has seen.

    Whoever waits for `_lock` has a connection, or needs none while it holds it: the writer waits for it under the lock of
    the whole cluster.
    """

    def __init__(self, db: Database, sinks: Sequence[Sink[Any]] = (), *, alone: bool) -> None:
        """`alone`: no other process serves from this database, so what is in memory is always current."""
        self._db = db
        self._sinks = {sink.entry_type: sink for sink in sinks}
        self._by_kind = {sink.kind: sink for sink in sinks}
        self.checked_sinks: list[Checked] = [sink for sink in sinks if isinstance(sink, Checked)]
        self._projections: list[Projection] = []
        self._handlers: dict[type[Entry], _Handlers] = {}
        self._after_batch: list[Callable[[Sequence[Written[Any]]], None]] = []
        self._lock = asyncio.Lock()
        self._hint = asyncio.Event()
        self._own: dict[Position, Written[Any]] = {}
        self.alone = alone
        """Whether no other process serves from this database (a command may still write, and says so)."""
        self._refresh: asyncio.Task[None] | None = None
        self._recent: deque[Written[Any]] = deque()
        self._recent_bytes = 0
        self._breaks = Breaks()
        self._unknown: set[str] = set()
        """Kinds of entries about which the log has a line already."""
        self.position: Position = 0
        self.resets = 0
        """How often a projection was dropped since the start."""
        self.jumps = 0
        """How often entries were missed."""
        self.neighbours: Neighbours | None = None
        self.when_blind: Callable[[], None] = lambda: None
        """Called once when the database cannot be read any more."""
        self._reached: deque[tuple[Position, asyncio.Future[None]]] = deque()
        """Who waits until a position is seen; at most one for each task of this process."""

    # --- wiring --------------------------------------------------------------------------------------------------

    def sink_for(self, entry_type: type[Entry]) -> Sink[Any]:
        return self._sinks[entry_type]

    def sink_of(self, entry_type: type[Entry]) -> Sink[Any] | None:
        """As `sink_for`; None for entries that this process does not know."""
        return self._sinks.get(entry_type)

    def sink_named(self, kind: str) -> Sink[Any] | None:
        """The sink of a kind of entry; None for one that this process does not know."""
        return self._by_kind.get(kind)

    def register(self, sink: Sink[Any]) -> None:
        """A kind of entry is stored there; before the first of them is written or read."""
        assert sink.kind not in self._by_kind, f"two sinks are called {sink.kind}"
        self._sinks[sink.entry_type] = sink
        self._by_kind[sink.kind] = sink
        if isinstance(sink, Checked):
            self.checked_sinks.append(sink)

    def attach(self, projection: Projection) -> None:
        """Feed a projection from now on; handlers run in the order of attachment."""
        self._projections.append(projection)
        for entry_type, handler in projection.handlers().items():
            handlers = self._handlers.setdefault(entry_type, _Handlers())
            if isinstance(handler, Narrowed):
                assert handlers.when in (None, handler.when)
                handlers.when = handler.when
                handlers.all.append((projection, handler.call))
            else:
                handlers.all.append((projection, handler))
                handlers.plain.append((projection, handler))

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
        others = self.neighbours
        if others is None or not others.complete:
            await self._fresh_from_database()
            return
        newest = others.newest()
        if newest <= self.position or (others.told and await self._comes(newest)):
            return
        await self._fresh_from_database()
        if newest > self.position:
            others.disbelieve(newest)

    async def _comes(self, position: Position) -> bool:
        """Whether a position is seen soon."""
        if position > self.position and self.neighbours is not None:
            self.neighbours.pull(position)
        if position <= self.position:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._reached.append((position, future))
        patience = loop.call_later(SOON, _resolve, future)
        try:
            await future
        finally:
            patience.cancel()
        return position <= self.position

    async def _fresh_from_database(self) -> None:
        # A read under way may have begun before the write we must see: wait for one that begins after now. How the one
        # before ended is not our business: if the database was away then, it may be back.
        if self._refresh is not None:
            await asyncio.wait([self._refresh])
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._catch_up())
        await asyncio.shield(self._refresh)

    async def reach(self, tx: Tx, position: Position) -> None:
        """See everything up to a position that is known to be committed, read on the caller's connection."""
        async with self._lock:
            await self._read_upto(tx, position)

    def holds(self, written: Sequence[Written[Any]]) -> bool:
        """Whether these, the very same, are in the recent log: then they are committed, whatever the connection says."""
        if not written or not self.floor < written[-1].position <= self.position:
            return False
        return next(self.since(written[-1].position - 1)) is written[-1]

    # --- following -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin at the head; nothing before it is in memory."""
        async with self._db.read() as tx:
            position = await store.read_head(tx)
            self._breaks = await _breaks(tx)
        self._moved_to(position)

    def expect(self, written: Sequence[Written[Any]]) -> None:
        """This process is about to commit these. Should the feed bring them before `publish` does, they are taken from
        here: decoded once more they would be strangers to those who wait for them.
        """
        self._own = {item.position: item for item in written}

    async def publish(self, written: Sequence[Written[Any]]) -> None:
        """Take a batch this process has just committed; first what others wrote before it.

        Never fails: if the others' entries cannot be read, the projections are dropped, and read anew when they are needed.
        """
        try:
            await self.take(written)
        finally:
            self._own = {}

    async def take(self, written: Sequence[Written[Any]]) -> None:
        """As `publish`, for a batch that another process of this host has committed."""
        if not written or self.offer(written):
            return
        try:
            async with self._db.read(first=True) as tx, self._lock:
                await self._read_upto(tx, written[0].position - 1)
                self._take(written)
        except Exception as error:  # noqa: BLE001  # they are committed: whoever waits for them must hear it
            log.warning("tail.publish_failed", error=repr(error))
            async with self._lock:
                if self.position < written[-1].position:
                    self._reset(written[-1].position, "unread")

    def offer(self, written: Sequence[Written[Any]]) -> bool:
        """Take committed entries if that needs no waiting: nobody is reading, and none is missing before them."""
        if self._lock.locked() or not self._follows_on(written):
            return False
        self._take(written)
        return True

    def _follows_on(self, written: Sequence[Written[Any]]) -> bool:
        return written[0].position <= self.position + 1

    def _take(self, written: Sequence[Written[Any]]) -> None:
        fresh = [item for item in written if item.position > self.position]
        if fresh:
            self._apply(fresh)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits until a position is seen."""
        return bool(self._reached)

    def hint(self, position: Position | None = None) -> None:
        """Somebody has written, up to `position` if that is known. We hear of our own writes as well; `publish` brings them."""
        if self.neighbours is not None and self.neighbours.told:
            return  # there it is heard as well
        if position is None or (position > self.position and position not in self._own):
            self._hint.set()

    async def run(self) -> None:
        """Follow what other processes write, until cancelled."""
        blind = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._hint.wait()
            self._hint.clear()
            try:
                await self._catch_up()
                blind = False
            except Exception as error:  # noqa: BLE001  # whatever it was, the log goes on
                log.warning("tail.read_failed", error=repr(error))
                if not blind:
                    self.when_blind()
                blind = True

    async def _catch_up(self) -> None:
        async with self._db.read(first=True) as tx:
            head = await store.read_head(tx)
            told = self.neighbours is not None and self.neighbours.told
            if head > self.position and not told:
                async with self._lock:
                    await self._read_upto(tx, head)
        if told and not await self._comes(head):
            await self.catch_up(head)

    async def catch_up(self, position: Position) -> None:
        """See everything up to a position that is known to be committed, read from the database."""
        async with self._db.read(first=True) as tx, self._lock:
            await self._read_upto(tx, position)

    async def _read_upto(self, tx: Tx, upto: Position) -> None:
        if upto - self.position > MAX_LAG:
            self._breaks = await _breaks(tx)
            self._reset(upto, "lag")
            return
        while self.position < upto:
            rows = await store.read_feed(tx, self.position, upto, READ_AT_ONCE)
            if not rows or rows[0][0] != self.position + 1 or rows[-1][0] - rows[0][0] != len(rows) - 1:
                self._reset(upto, "gap")
                return
            written = await self._decode(tx, rows)
            if written is None:
                self._reset(rows[-1][0], "unreadable")
            else:
                self._apply(written)

    async def _decode(self, tx: Tx, rows: list[store.FeedRow]) -> list[Written[Any]] | None:
        """What the rows stand for, one entry for each; None if that of one is not to be had."""
        by_kind: dict[str, list[tuple[Position, bytes]]] = defaultdict(list)
        written: list[Written[Any]] = []
        for position, kind, payload, _ in rows:
            if (own := self._own.get(position)) is not None:
                written.append(own)
            else:
                by_kind[kind].append((position, payload))
        for kind, items in by_kind.items():
            decoded = await self._decode_kind(tx, kind, items)
            if decoded is None:
                return None
            written += decoded
        written.sort(key=lambda item: item.position)
        if self.neighbours is None:
            return written
        handed = [
            row[3] and self.neighbours.own(row[3], *item) for row, item in zip(rows, written, strict=True)
        ]
        return [own or item for own, item in zip(handed, written, strict=True)]

    async def _decode_kind(
        self, tx: Tx, kind: str, items: list[tuple[Position, bytes]]
    ) -> Sequence[Written[Any]] | None:
        sink = self._by_kind.get(kind)
        if sink is None:
            if kind not in self._unknown:
                self._unknown.add(kind)
                log.warning("tail.unknown_kind", kind=kind)
            return [Written(position, Unknown(kind)) for position, _ in items]
        try:
            decoded = await sink.decode(tx, items)
        except (psycopg.Error, StorageError, OSError):
            raise  # the database's: the next attempt may find it well
        except Exception:
            log.exception("tail.decode_failed", kind=kind, first=items[0][0], last=items[-1][0])
            return None
        if len(decoded) != len(items):
            log.warning("tail.entries_gone", kind=kind, first=items[0][0], last=items[-1][0])
            return None
        return decoded

    def _apply(self, written: Sequence[Written[Any]]) -> None:
        for position, entry in written:
            handlers = self._handlers.get(type(entry))
            if handlers is None:
                continue
            everybody = handlers.when is None or handlers.when(entry)
            for projection, handler in handlers.all if everybody else handlers.plain:
                try:
                    handler(position, entry)
                except Exception:
                    log.exception("tail.projection_failed", position=position, entry=type(entry).__name__)
                    self._drop(projection)
        self._keep(written)
        self._moved_to(written[-1].position)
        self._tell(written)

    def _keep(self, written: Sequence[Written[Any]]) -> None:
        recent = self._recent
        recent.extend(written)
        self._recent_bytes += sum([entry.size for _, entry in written])
        while len(recent) > RECENT_ENTRIES or (self._recent_bytes > RECENT_BYTES and len(recent) > 1):
            self._recent_bytes -= recent.popleft().entry.size

    def _reset(self, position: Position, why: str) -> None:
        """Entries were missed: forget everything derived and go on from `position`."""
        log.warning("tail.reset", why=why, position=position, was=self.position)
        for projection in self._projections:
            self._drop(projection)
        self._recent.clear()
        self._recent_bytes = 0
        self.jumps += 1
        self._moved_to(position)
        self._tell(())

    def _moved_to(self, position: Position) -> None:
        self.position = position
        if self.neighbours is not None:
            self.neighbours.seen(position)
        while self._reached and (self._reached[0][0] <= position or self._reached[0][1].done()):
            _, future = self._reached.popleft()
            _resolve(future)

    def _drop(self, projection: Projection) -> None:
        """What it knows may be wrong: it must be built anew."""
        self.resets += 1
        try:
            projection.reset()
        except Exception:
            log.exception("tail.reset_failed", projection=type(projection).__name__)

    def _tell(self, written: Sequence[Written[Any]]) -> None:
        for call in self._after_batch:
            try:
                call(written)
            except Exception:
                log.exception("tail.listener_failed", position=self.position)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _breaks(tx: Tx) -> Breaks:
    return Breaks([Break(*each) for each in await store.find_breaks(tx)])
