"""A small log of notes with readers of their own: what readers promise is tried on it, without the rest of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.readers.service import ReaderService
from homeserver.log.readers.types import Backoff, Item, Reader, Slice
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline, Tx

TABLE = "CREATE TABLE IF NOT EXISTS test_notes (position bigint PRIMARY KEY, to_key text NOT NULL, number bigint NOT NULL)"


class Note(Entry, frozen=True):
    to: str
    number: int


class NoteSink(StructSink[Note]):
    kind = "test_note"
    entry_type = Note

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[Note]]) -> None:
        batch.execute(
            "INSERT INTO test_notes SELECT * FROM unnest(%(at)s::bigint[], %(to)s::text[], %(number)s::bigint[])",
            at=[position for position, _ in written],
            to=[note.to for _, note in written],
            number=[note.number for _, note in written],
        )


class NoteSource:
    entry_type = Note

    def __init__(self) -> None:
        self.reads = 0

    def take(self, entry: Note) -> Note:
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        self.reads += 1
        rows = await tx.all(
            """
            SELECT position, to_key, number FROM test_notes
            WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
            """,
            after=after,
            upto=upto,
            limit=limit,
        )
        items = [Item(position, Note(to, number)) for position, to, number in rows]
        return Slice(items, rows[-1][0] if len(rows) == limit else upto)


async def by_addressee(items: Sequence[Item[Note]]) -> list[Collection[str]]:
    """Interest of a reader with a cursor for each addressee; notes to nobody concern none."""
    return [(item.value.to,) if item.value.to else () for item in items]


Deliver = Callable[[str, Sequence[Item[Note]]], Awaitable[int | None]]


def note_reader(deliver: Deliver, **options: Any) -> Reader:
    """A reader of notes that is quick to try again."""
    defaults: dict[str, Any] = {
        "name": "notes",
        "sources": [NoteSource()],
        "interest": by_addressee,
        "from_beginning": True,
        "backoff": Backoff(first=0.02, longest=0.2),
    }
    return Reader(deliver=deliver, **{**defaults, **options})


@dataclass
class NoteProcess:
    """As much of a process as readers need."""

    db: Database
    tail: Tail
    log: LogWriter
    readers: ReaderService
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def write(self, *notes: Note) -> None:
        await self.log.append(*notes)

    def die(self) -> None:
        """As a process that is killed: nothing is given up, nothing more is written."""
        for task in [*self.tasks, *self.readers._tasks.values()]:
            task.cancel()
        self.readers._tasks.clear()
        self.readers._leases.clear()
        for connection in (*self.db._used, *self.db._idle):
            connection.close()
        self.db._closed = True


@contextlib.asynccontextmanager
async def note_process(dsn: str, *readers: Reader, alone: bool = False) -> AsyncIterator[NoteProcess]:
    """Runs until the block ends, then stops in good order."""
    async with Database(dsn, size=4) as db:
        async with db.transaction() as tx:
            await tx.execute(TABLE)
        tail = Tail(db, [NoteSink()], alone=alone)
        log = LogWriter(db, tail, SystemClock())
        service = ReaderService(readers, db, tail, Entropy())
        process = NoteProcess(db, tail, log, service)
        await tail.start()
        await service.declare()
        process.tasks = [
            asyncio.create_task(log.run()),
            asyncio.create_task(tail.run()),
            asyncio.create_task(service.run()),
        ]
        try:
            yield process
        finally:
            for task in reversed(process.tasks):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
