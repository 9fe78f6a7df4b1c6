"""Kicks and bans that redact what their target has said: all of it since they came, by a job, a page after the other.

What the target's server delivers after that is redacted as it comes (`receive_run`). No redaction is sent: each server does so by
itself, and clients do. A job that is done again passes over what is redacted. spec: MSC4293
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeserver.events.ended_stays import asks_to_redact
from homeserver.events.redaction import redact_event
from homeserver.graph.entry import EventEntry, RedactedEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import HIDDEN
from homeserver.graph.relations import delete_relations
from homeserver.graph.write import ended_stays_store as store
from homeserver.graph.write import originals_store
from homeserver.graph.write.redactions import Redactions
from homeserver.jobs.service import Jobs
from homeserver.jobs.types import JobKind, Retry
from homeserver.log.entries import Entry, Position, Written
from homeserver.log.tail import Handler, Narrowed, Tail
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import UserId
from homeserver.runtime.turns import pieces
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline, Tx

MOST_LOOKED_AT: Final = 1_000_000
"""Events of the room, the newest before the kick or ban; what is older stays as it is."""
LOOKED_AT_ONCE: Final = 2_000
MOST_NAMES: Final = 1_000
"""Changes of name in the stay; with more of them it counts from one of these on."""
REDACTED_AT_ONCE: Final = 50
"""In one entry of the log."""


class EndedStay(msgspec.Struct, frozen=True):
    """A kick or ban that says that what its target has said is to be redacted."""

    event_nid: int


REDACT_STAY: Final = JobKind(
    "graph.redact_stay", EndedStay, retry=Retry(attempts=20), at_once=2, timeout=900.0
)


def defer_redacting(batch: Pipeline, written: Sequence[Written[EventEntry]]) -> None:
    """In the transaction that writes them: jobs for the kicks and bans among these events."""
    for position, entry in written:
        if not entry.persisted.flags & HIDDEN and asks_to_redact(entry.persisted.event):
            Jobs.defer(batch, REDACT_STAY, EndedStay(position), key=str(position))


class EndedStays:
    """Does the jobs; a projection that wakes who does. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        tail: Tail,
        events: EventCache,
        interning: Interning,
        redactions: Redactions,
        jobs: Jobs,
    ) -> None:
        self._db = db
        self._log = log
        self._tail = tail
        self._events = events
        self._interning = interning
        self._redactions = redactions
        self._jobs = jobs

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._applied, touches_state)}

    def reset(self) -> None:
        """What was missed is found by who looks for jobs from time to time."""

    def _applied(self, _: Position, entry: EventEntry) -> None:
        if asks_to_redact(entry.persisted.event):
            self._jobs.wake()

    async def redact(self, wanted: EndedStay) -> None:
        """Redact what was said in the stay that a kick or ban has ended, the newest first. Raises what the database says: then it
        is done once more.
        """
        because = await self._events.one(wanted.event_nid)
        if because is None or not await self._redactions.by_ended_stay(because):
            return
        target = UserId(because.event.state_key or "")
        numbers = await self._interning.find_user_nids([target])
        after = await self._joined(because)
        before = self._tail.position + 1
        for _ in range(MOST_LOOKED_AT // LOOKED_AT_ONCE if after is not None else 0):
            assert after is not None
            async with self._db.read() as tx:
                looked = await store.look_at(
                    tx,
                    store.Range(because.room_nid, after, before),
                    numbers[target],
                    because.nid,
                    LOOKED_AT_ONCE,
                )
            for some in pieces(looked.found, REDACTED_AT_ONCE):
                loaded = await self._events.load(some)
                targets = tuple([each for each in loaded.values() if each.redaction is None])
                if targets:
                    await self._log.append(RedactedEntry(because.room_nid, because, targets))
            if looked.oldest is None:
                return
            before = looked.oldest

    async def _joined(self, because: PersistedEvent) -> Position | None:
        """The join that began the stay, changes of name after it aside; None: there was no stay."""
        found, replaced = None, because.replaced
        for _ in range(MOST_NAMES):
            before = await self._events.one(replaced.ref.nid) if replaced is not None else None
            if before is None or before.event.membership != "join":
                break
            found, replaced = before.nid, before.replaced
        return found


class _Feed(msgspec.Struct, array_like=True):
    room_nid: int
    because: int
    targets: list[int]


class RedactedSink:
    """The sink of `RedactedEntry`: stripped forms take the place of events. See docs/decisions/0005-redaction-in-place.md."""

    kind = "redacted"
    entry_type = RedactedEntry

    def __init__(self, events: EventCache, *, keep_originals: bool) -> None:
        """`keep_originals`: what is redacted is kept apart for a while (`originals`)."""
        self._events = events
        self._keep = keep_originals

    def write(self, batch: Pipeline, written: Sequence[Written[RedactedEntry]]) -> None:
        by = {target: entry.because.nid for _, entry in reversed(written) for target in entry.targets}
        nids = [target.nid for target in by]
        pdus = [redact_event(target.event).pdu for target in by]
        originals_store.redact(batch, nids, pdus, list(by.values()), keep=self._keep)
        delete_relations(batch, nids)

    def encode(self, entry: RedactedEntry) -> bytes:
        feed = _Feed(entry.room_nid, entry.because.nid, [target.nid for target in entry.targets])
        return msgspec.msgpack.encode(feed)

    def pack(self, entry: RedactedEntry, *, to_write: bool) -> bytes | None:
        """It is written by its own process, and read from its table."""
        del entry, to_write
        return None  # the type says so

    def unpack(self, payload: bytes, position: Position) -> RedactedEntry:
        """Never asked for."""
        del payload, position
        raise ValueError("redacted events do not travel whole")

    def adopt(self, entry: RedactedEntry, position: Position, written: RedactedEntry | None) -> None:
        """Nothing is noted."""

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[RedactedEntry]]:
        feeds = [(position, _decode(payload)) for position, payload in rows]
        loaded = await self._events.load_in(
            tx, {nid for _, feed in feeds for nid in (feed.because, *feed.targets)}
        )
        return [
            Written(
                position,
                RedactedEntry(
                    feed.room_nid,
                    loaded[feed.because],
                    tuple([loaded[nid] for nid in feed.targets if nid in loaded]),
                ),
            )
            for position, feed in feeds
            if feed.because in loaded
        ]


_decode = msgspec.msgpack.Decoder(_Feed).decode
