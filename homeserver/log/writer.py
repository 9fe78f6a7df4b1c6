"""Group commit: concurrent appends of a process are written together, in one transaction.

The row `log_head` is both the lock and the counter: it is locked first, everything that depends on the present is checked
under that lock, and positions are given out only to what passed. So positions are gapless and become visible in order,
over all processes, and whoever has seen position P has seen everything up to P.

A batch that one of its appends spoils is halved until that one stands alone. A batch whose COMMIT was not answered is not
written again before the database has said that it was not carried out.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import structlog

from homeserver.log import causes, faults, store, transaction_ids
from homeserver.log.entries import (
    Alongside,
    AlreadyDone,
    Append,
    Conflict,
    Entry,
    Position,
    Refused,
    TransactionId,
    Written,
)
from homeserver.log.neighbours import Delegate, Waiting
from homeserver.log.tail import Tail
from homeserver.matrix.errors import Unavailable
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Pipeline, Tx

log = structlog.get_logger(__name__)

MAX_BATCH = 512
"""Appends written in one transaction."""
MAX_WAITING = 20_000
"""Appends that may wait; beyond it callers are told to come back."""

ASK_AGAIN = (0.1, 0.3, 1.0, 2.0, *(5.0,) * 18)
"""Seconds between questions after a COMMIT that was not answered: longer than a database takes to come back, or to notice
that we are gone (`Timeouts.idle`)."""
ASK_BRIEFLY = (0.1, 0.3, 1.0)
"""Where there are other hosts: clients repeat there what is not answered here."""
SOON = 2.0
"""Seconds that a write may have taken that is repeated here, or asked about, where there are other hosts."""

_Outcome = tuple[Refused, list[Written[Any]]]


class _Lost(Exception):  # never leaves this file
    """The connection was lost, and with it the transaction."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class _InDoubt(_Lost):
    """COMMIT was under way; `outcome` is what has become of the batch if it was carried out."""

    def __init__(self, cause: Exception, xid: str, outcome: _Outcome, rows: list[store.FeedRow]) -> None:
        super().__init__(cause)
        self.xid = xid
        self.outcome = outcome
        self.rows = rows


class LogWriter:
    """The only way to write to the log in this process. `run` must be running for `append` to return."""

    def __init__(self, db: Database, tail: Tail, clock: Clock) -> None:
        self._db = db
        self._tail = tail
        self._clock = clock
        self._waiting: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._trimmed_at: Position = 0
        self.delegate: Delegate | None = None
        self.several_hosts = False
        """Other hosts serve from this database, to which clients may go."""

    @property
    def waiting(self) -> int:
        """Appends that are not written yet."""
        return len(self._waiting)

    def add(self, append: Append) -> asyncio.Future[range]:
        """Queue an append at once, without waiting: what is added first is written first.

        The future gives the positions of its entries; raises `AlreadyDone`, `Conflict`, or what the database said. What the
        database did not say (the connection was lost, and did not come back) may have been written or not.
        """
        self._db.must_not_hold("an append to the log")
        if self._closed or len(self._waiting) >= MAX_WAITING:
            raise Unavailable("The server is too busy to write now, try again")
        future: asyncio.Future[range] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, future))
        self._wake.set()
        return future

    async def append(
        self, *entries: Entry, txn: TransactionId | None = None, alongside: Alongside | None = None
    ) -> range:
        """Write entries all or nothing and wait until they are committed and seen by this process's projections."""
        return await self.add(Append(entries, txn, alongside))

    async def run(self) -> None:
        """Write batches until cancelled, or until `close` and everything that waits is written."""
        while not self._closed or self._waiting or (self.delegate is not None and self.delegate.busy):
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            count = len(self._waiting)
            if self.delegate is not None:
                count = await self.delegate.hand_over(self._waiting)
                if not count:
                    continue
            count = min(count, len(self._waiting), MAX_BATCH)
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                await self._write(batch)
            except Exception as error:
                log.exception("log.batch_failed", appends=count)
                self._fail(batch, error)

    def take_back(self, appends: Sequence[Waiting]) -> None:
        """Appends that were handed over come back to the front, in order; or none, and `run` shall look again."""
        self._waiting.extendleft(reversed(appends))
        if self._waiting or self._closed:
            self._wake.set()

    def close(self) -> None:
        """Take no more; `run` returns when the rest is written."""
        self._closed = True
        self._wake.set()

    async def _write(self, batch: list[Waiting]) -> None:
        """Write one batch, in parts where that is the only way to write what is good of it."""
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                refused, written = await self._settled([append for append, _ in part])
            except asyncio.CancelledError:
                for each in (*parts, part):
                    for _, future in each:
                        future.cancel()
                raise
            except Exception as error:  # noqa: BLE001  # whatever it was, the log goes on
                if len(part) > 1 and faults.is_of_one(error):
                    log.warning("log.batch_split", appends=len(part), error=type(error).__name__)
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                else:
                    self._fail(part, error)
                continue
            await self._tail.publish(written)
            for index, (append, future) in enumerate(part):
                _resolve(future, refused.get(index) or append.positions)

    def _fail(self, batch: list[Waiting], error: Exception) -> None:
        for _, future in batch:
            _resolve(future, faults.copy_of(error) if len(batch) > 1 else error)

    async def _settled(self, appends: list[Append]) -> _Outcome:
        """What became of a batch. Written anew, once, if only the connection or the moment was wrong."""
        again, began = True, self._clock.monotonic()
        while True:
            try:
                return await self._transaction(appends)
            except _InDoubt as doubt:
                committed = await self._is_committed(doubt)
                if committed:
                    return doubt.outcome
                error, again = doubt.cause, again and committed is not None
            except _Lost as lost:
                error = lost.cause
            except Exception as raised:  # noqa: BLE001  # raised again below, unless it passes
                error, again = raised, again and faults.passes_when_repeated(raised)
            self._take_back(appends)
            if not again or (self.several_hosts and self._clock.monotonic() - began > SOON):
                raise error
            again = False
            log.warning("log.batch_repeated", appends=len(appends), error=repr(error))

    def _take_back(self, appends: list[Append]) -> None:
        """They were not written: nothing built on them fits any more."""
        self._tail.expect(())
        for sink in self._tail.checked_sinks:
            sink.undo(appends)

    async def _is_committed(self, doubt: _InDoubt) -> bool | None:
        """Asks until the database answers; None if it never does."""
        for pause in ASK_BRIEFLY if self.several_hosts else ASK_AGAIN:
            try:
                async with self._patience(), self._db.transaction(first=True) as tx:
                    return await store.is_committed(tx, doubt.xid, doubt.rows)
            except (psycopg.OperationalError, StorageError, TimeoutError) as error:
                log.warning("log.commit_in_doubt", error=repr(error), again_in=pause)
            await self._clock.sleep(pause)
        return True if self._tail.holds(doubt.outcome[1]) else None

    def _patience(self) -> asyncio.Timeout:
        return asyncio.timeout(SOON if self.several_hosts else None)

    async def _transaction(self, appends: list[Append]) -> _Outcome:
        """Write a batch. Raises what the database says, `_Lost` or `_InDoubt`."""
        async with self._db.transaction(first=True) as tx:
            try:
                return await self._flights(tx, appends)
            except Exception as error:
                # At once: as soon as the lock is gone others may be given these positions.
                self._tail.expect(())
                if tx.lost and not isinstance(error, _Lost):
                    raise _Lost(error) from error
                raise

    async def _flights(self, tx: Tx, appends: list[Append]) -> _Outcome:
        """Two flights: look, under the lock; then write and commit. What met a conflict is built again in between: while
        the lock is held nobody else can be faster, so that no process waits forever for another that is busier.
        """
        head, xid, refusals = await self._check(tx, appends)
        refused = refusals({})
        stale = [index for index, why in refused.items() if isinstance(why, Conflict)]
        # Alone, nobody else looks: a command may have written.
        if stale:
            await self._tail.reach(tx, head)
            refused = refusals({})  # beside what others have written, it may fit
            stale = [index for index in stale if isinstance(refused.get(index), Conflict)]
        if any(appends[index].build_again for index in stale):
            refused = refusals(_built_again(appends, stale))
        accepted = [append for index, append in enumerate(appends) if index not in refused]
        written = _number(head, accepted)
        _settle_twins(appends, refused)
        if accepted:
            self._tail.expect(written)
            try:
                async with tx.pipeline(commit=True) as batch:
                    self._write_rows(batch, accepted, written)
            except Exception as error:
                if tx.in_doubt:
                    rows = self._feed_rows(written, _origins(accepted))
                    raise _InDoubt(error, xid, (refused, written), rows) from error
                raise
        return refused, written

    async def _check(
        self, tx: Tx, appends: list[Append]
    ) -> tuple[Position, str, Callable[[Refused], Refused]]:
        """Lock the head; find what was already written or was built on something that has changed.

        Returns the head, the transaction's id, and what tells all that is refused, given what cannot be written anyhow.
        """
        keys = [transaction_ids.key_of(append.txn) if append.txn else None for append in appends]
        async with tx.pipeline() as batch:
            head = store.lock_head(batch)
            used = transaction_ids.find_written(batch, [key for key in keys if key]) if any(keys) else None
            kinds = {type(entry) for append in appends for entry in append.entries}
            checks = [
                sink.check(batch, appends) for sink in self._tail.checked_sinks if sink.entry_type in kinds
            ]
        assert head.result is not None
        repeated = _repeated(keys, dict(used.result) if used else {})

        def refusals(failed: Refused) -> Refused:
            refused = {**failed, **repeated}
            for check in checks:
                refused |= check(refused)
            return refused

        return *head.result, refusals

    def _write_rows(self, batch: Pipeline, accepted: list[Append], written: list[Written[Any]]) -> None:
        by_type: dict[type[Entry], list[Written[Any]]] = defaultdict(list)
        for item in written:
            by_type[type(item.entry)].append(item)
        for entry_type, items in by_type.items():
            self._tail.sink_for(entry_type).write(batch, items)
        txn = [(a.txn, a.positions[-1] if a.positions else 0) for a in accepted if a.txn]
        if txn:
            transaction_ids.insert_keys(batch, txn, self._clock.now_ms())
        causes.write(batch, accepted, self._clock.now_ms())
        for append in accepted:
            if append.alongside:
                append.alongside(
                    batch, [Written(p, e) for p, e in zip(append.positions, append.entries, strict=True)]
                )
        if self.delegate is not None:
            self.delegate.writing(accepted)
        if written:
            self._advance(batch, written, _origins(accepted))

    def _advance(
        self, batch: Pipeline, written: list[Written[Any]], origins: Mapping[Position, bytes]
    ) -> None:
        head = written[-1].position
        store.insert_feed(batch, self._feed_rows(written, origins))
        store.advance_head(batch, head)
        if not self._tail.alone and (self.delegate is None or self.delegate.notifies):
            store.tell_others(batch, head)
        if head - self._trimmed_at > store.TRIM_EVERY:
            self._trimmed_at = head
            store.trim_feed(batch, head - store.KEEP_FEED)

    def _feed_rows(
        self, written: list[Written[Any]], origins: Mapping[Position, bytes]
    ) -> list[store.FeedRow]:
        rows: list[store.FeedRow] = []
        for position, entry in written:
            sink = self._tail.sink_for(type(entry))
            rows.append((position, sink.kind, sink.encode(entry), origins.get(position)))
        return rows


def _origins(accepted: Sequence[Append]) -> dict[Position, bytes]:
    """Of entries of other processes: position -> whose they are, with their place in the append."""
    return {
        position: append.origin + index.to_bytes(2)
        for append in accepted
        if append.origin
        for index, position in enumerate(append.positions)
    }


class _Twin(AlreadyDone):
    """The same request is in the batch already: two processes of a host were asked at once."""

    def __init__(self, first: int) -> None:
        super().__init__(0)
        self.first = first


def _repeated(keys: list[bytes | None], used: dict[bytes, Position]) -> Refused:
    refused: Refused = {}
    seen: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        if key is None:
            continue
        if key in used:
            refused[index] = AlreadyDone(used[key])
        elif key in seen:
            refused[index] = _Twin(seen[key])
        seen.setdefault(key, index)
    return refused


def _settle_twins(appends: list[Append], refused: Refused) -> None:
    """What the same request has written, now that it is numbered; or that it is to be looked for again."""
    for index, why in list(refused.items()):
        if isinstance(why, _Twin):
            positions = appends[why.first].positions
            done = why.first not in refused
            refused[index] = (
                AlreadyDone(positions[-1] if positions else 0) if done else Conflict("its twin was refused")
            )


def _built_again(appends: list[Append], stale: list[int]) -> Refused:
    """Build what met a conflict on what is there now, in its order. Returns what cannot be built any more."""
    failed: Refused = {}
    for index in sorted(stale):
        append = appends[index]
        if append.build_again is None:
            continue
        try:
            append.entries = append.build_again()
        except Exception as error:  # noqa: BLE001  # its caller is told, the others are written
            failed[index] = error
    return failed


def _number(head: Position, accepted: list[Append]) -> list[Written[Any]]:
    written: list[Written[Any]] = []
    for append in accepted:
        first = head + 1
        for entry in append.entries:
            head += 1
            written.append(Written(head, entry))
        append.positions = range(first, head + 1)
    return written


def _resolve(future: asyncio.Future[range], outcome: range | Exception) -> None:
    if future.done():  # the caller has gone
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
