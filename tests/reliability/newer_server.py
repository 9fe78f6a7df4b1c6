"""Atrium as a later version may be: the real server and one more feature. `python newer_server.py serve --config FILE`.

The feature has what an older process does not know: a kind of log entry, a stream, a reader, a kind of job, periodic work.
What they did stands in tables, which `MIGRATION` makes.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import override

sys.path.insert(0, str(Path(__file__).parents[2]))

from homeserver import app
from homeserver.cli import main
from homeserver.jobs.types import JobKind
from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.readers.types import Item, Reader, Slice
from homeserver.runtime.periodic import every
from homeserver.storage.tx import Pipeline, Tx
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path as InPath
from homeserver.web.endpoint import endpoint
from homeserver.wiring.core import Core
from homeserver.wiring.features import F, Features
from homeserver.wiring.manifest import Manifest

KIND = "tests.later_note"
STREAM = "tests.later.notes"
READER = "tests.later_reader"
JOB_KIND = "tests.later_job"
PERIODIC = "tests.later_work"
NOTE = "/_matrix/client/unstable/tests.later/notes/{number}"
MIGRATION = """\
-- depends: 0001-log
-- older: may run
CREATE TABLE later_notes (position bigint PRIMARY KEY, user_nid bigint NOT NULL, number bigint NOT NULL);
CREATE TABLE later_delivered (place bigint GENERATED ALWAYS AS IDENTITY, position bigint NOT NULL, number bigint NOT NULL);
CREATE TABLE later_jobs_done (number bigint NOT NULL);
CREATE TABLE later_runs (at timestamptz NOT NULL DEFAULT now());
"""


class LaterNote(Entry, frozen=True):
    user_nid: int
    number: int


class LaterSink(StructSink[LaterNote]):
    kind = KIND
    entry_type = LaterNote

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[LaterNote]]) -> None:
        batch.execute(
            "INSERT INTO later_notes SELECT * FROM unnest(%(at)s::bigint[], %(users)s::bigint[], %(numbers)s::bigint[])",
            at=[position for position, _ in written],
            users=[note.user_nid for _, note in written],
            numbers=[note.number for _, note in written],
        )


class LaterSource:
    entry_type = LaterNote

    def take(self, entry: LaterNote) -> int:
        return entry.number

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        rows = await tx.all(
            """
            SELECT position, number FROM later_notes
            WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
            """,
            after=after,
            upto=upto,
            limit=limit,
        )
        return Slice([Item(*row) for row in rows], rows[-1][0] if len(rows) == limit else upto)


class LaterStream:
    always_asked = False

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {LaterNote: lambda note: Recipients((note.user_nid,))}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        del rooms
        notes = request.recent.of(LaterNote) if request.recent is not None else ()
        mine = [note.number for _, note in notes if note.user_nid == request.requester.user_nid]
        return Part(top={STREAM: msgspec.json.encode(mine)}) if mine else NO_NEWS


class LaterJob(msgspec.Struct):
    number: int


LATER_JOB = JobKind(JOB_KIND, LaterJob)


class LaterFeature:
    """Each note is an entry, and a job in the same transaction."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @endpoint("putLaterNote", "PUT", NOTE, auth=Auth.USER)
    async def put(self, requester: Requester, number: InPath[int]) -> None:
        def defer(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            self._core.jobs.defer(batch, LATER_JOB, LaterJob(number), key=str(number))

        await self._core.log.append(LaterNote(requester.user_nid, number), alongside=defer)
        self._core.jobs.wake()

    async def _done(self, job: LaterJob) -> None:
        async with self._core.db.transaction() as tx:
            await tx.execute("INSERT INTO later_jobs_done VALUES (%(number)s)", number=job.number)

    async def _run(self) -> None:
        async with self._core.db.transaction() as tx:
            await tx.execute("INSERT INTO later_runs DEFAULT VALUES")

    async def _deliver(self, key: str, items: Sequence[Item[int]]) -> None:
        del key
        async with self._core.db.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO later_delivered (position, number)
                SELECT * FROM unnest(%(at)s::bigint[], %(numbers)s::bigint[]) AS items (at, number) ORDER BY at
                """,
                at=[item.position for item in items],
                numbers=[item.value for item in items],
            )

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            name="later",
            apis=[self],
            sinks=[LaterSink()],
            streams=[LaterStream()],
            readers=[
                Reader(name=READER, sources=[LaterSource()], deliver=self._deliver, from_beginning=True)
            ],
            jobs={LATER_JOB: self._done},
            periodic=[every(0.5, self._run, name=PERIODIC, once_in_cluster=True, first=0.1)],
        )


class LaterFeatures(Features):
    """Those there are, and one more before them."""

    @override
    def _add(self, feature: F) -> F:
        if len(self.manifests) == 1:
            self.manifests.append(LaterFeature(self._core).manifest)
        return super()._add(feature)


if __name__ == "__main__":
    app.Features = LaterFeatures  # type: ignore[misc]  # where the server constructs them
    main()
