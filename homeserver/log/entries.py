"""What can be appended to the log, and how each kind is stored.

A feature declares its entry (a frozen msgspec Struct) and a `Sink` beside the table it owns; the log knows neither.
Every entry takes exactly one position; positions are gapless and become visible in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from homeserver.runtime.request_context import RequestContext
from homeserver.storage.tx import Pipeline, Tx

ENTRY_BYTES = 400
"""What a small entry takes in memory."""
Position = int
"""A place in the log; 0 is before everything."""


class Entry(msgspec.Struct, frozen=True):
    """Base of everything that takes a position. Subclasses hold what a reader in another process needs to know."""

    @property
    def size(self) -> int:
        """Bytes this takes in memory, roughly; the same for as long as it lives."""
        return ENTRY_BYTES + sum(
            [len(value) for value in msgspec.structs.astuple(self) if isinstance(value, bytes | str)]
        )


class Unknown(Entry, frozen=True):
    """Stands at a position whose kind of entry this process does not know: a newer one beside it has written it."""

    kind: str


E = TypeVar("E", bound=Entry)


class Written(NamedTuple, Generic[E]):
    """An entry that is committed (or, inside a sink's `write`, about to be) at its position."""

    position: Position
    entry: E


class Sink(Protocol[E]):
    """Where one kind of entry is stored. One per entry type, owned by the feature that owns the table."""

    kind: str
    """Name in the feed; never reuse one with another meaning."""
    entry_type: type[E]

    def write(self, batch: Pipeline, written: Sequence[Written[E]]) -> None:
        """Add the statements that store all entries of one batch: a bounded number, never one per entry."""
        ...

    def encode(self, entry: E) -> bytes:
        """The payload for other processes; empty if `decode` reads it from its table."""
        ...

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[E]]:
        """Entries again from feed rows of this kind, in the same order; at most one query.

        One that is left out (its row is gone), or an exception that is not the database's, makes this process drop its
        projections: what they would have learned is not to be had.
        """
        ...

    def pack(self, entry: E, *, to_write: bool) -> bytes | None:
        """The whole entry, for a process of the same host: one that is to write it, or (`to_write` False, and the entry is
        committed) one that applies it. It begins as what `encode` returns. None: it does not go into bytes; then it is
        written by its own process, and read from its table.
        """
        ...

    def unpack(self, payload: bytes, position: Position) -> E:
        """The entry again, from what `pack` returned in another process. `position`: where it stands; 0: it is to be written."""
        ...

    def adopt(self, entry: E, position: Position, written: E | None) -> None:
        """Another process has written this entry of ours: note on it what `write` would have noted. May be called again.

        `written`: the entry as it stands there, where it may have been changed; None: as it was.
        """
        ...


class StructSink(Generic[E]):
    """A sink whose entries travel whole in the feed. Subclass and override `write`; by default nothing else is stored."""

    kind: str
    entry_type: type[E]

    def write(self, batch: Pipeline, written: Sequence[Written[E]]) -> None:
        """Nothing but the feed."""
        del batch, written

    def encode(self, entry: E) -> bytes:
        return msgspec.msgpack.encode(entry)

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[E]]:
        del tx
        return [Written(position, self.unpack(payload, position)) for position, payload in rows]

    def pack(self, entry: E, *, to_write: bool) -> bytes | None:
        """See `Sink.pack`."""
        del to_write
        return self.encode(entry)

    def unpack(self, payload: bytes, position: Position) -> E:
        """See `Sink.unpack`."""
        del position
        entry: E = _decoder(self.entry_type).decode(payload)
        return entry

    def adopt(self, entry: E, position: Position, written: E | None) -> None:
        """Nothing is noted on the entries."""


@lru_cache(maxsize=256)
def _decoder(entry_type: type[Any]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(entry_type)


Refused = dict[int, Exception]
"""Number of an append in its batch -> why it must not be written."""


@runtime_checkable
class Checked(Protocol):
    """A sink that must look before a batch is written, under the lock on the head; asked where the batch has its entries."""

    entry_type: type[Any]

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Add at most one query; when it has run, the function returned is called with what is refused already
        and tells which further appends must not be written (usually with `Conflict`). It is called once more when some
        of them have been built again.
        """
        ...

    def undo(self, appends: Sequence[Append]) -> None:
        """The transaction failed: take back what `write` noted on the entries."""
        ...


class TransactionId(NamedTuple):
    """Identity of a request that may be retried. spec: client-server-api/#transaction-identifiers"""

    user_nid: int
    device_id: str
    scope: str
    """The endpoint and everything in its path but the transaction id."""
    txn_id: str


Alongside = Callable[[Pipeline, Sequence[Written[Any]]], None]
"""Adds further statements to the same transaction, given the append's entries with their positions."""


class Cause(msgspec.Struct, frozen=True, gc=False):
    """Who acted, and why. Not part of any entry and not in the feed: what is not plain from the entries themselves is written
    to `log_causes` and `log_labels` in the same transaction, where a reader finds it by position (`causes`).
    """

    actor_nid: int | None = None
    """The local user who acted; None: the server itself, or another one."""
    reason: str | None = None
    """Why the server acted by itself, or otherwise than asked; None: somebody did what the entries say."""
    request: RequestContext | None = None
    """The request that this is part of; None: background work."""
    labels: tuple[str, ...] = ()
    """What policy checks have to say about it."""


@dataclass(slots=True, eq=False)
class Append:
    """What one caller wants written, all or nothing."""

    entries: Sequence[Entry]
    txn: TransactionId | None = None
    alongside: Alongside | None = None
    cause: Cause | None = None
    build_again: Callable[[], Sequence[Entry]] | None = None
    """Builds the entries anew where they meet a conflict, on what this process has seen by then: everything, and nobody
    else writes. Must not wait; raises `Conflict` if it cannot, or whatever speaks against the append by now."""
    may_follow: bool = False
    """Was planned here on the state of a room, and may be changed to follow what others have said meanwhile."""
    origin: bytes = b""
    """Which append of which process this is, where another one of the host writes it (`log.host`)."""
    changed: bool = False
    """What was looked at under the lock has changed an entry."""
    here: bool = False
    """This process has to write it itself."""
    positions: range = field(default=range(0), init=False)


class Conflict(Exception):
    """What the append was built on has changed; build it again."""


class AlreadyDone(Exception):
    """The request was already carried out. `position` is that of its last entry then; 0 if it wrote none."""

    def __init__(self, position: Position) -> None:
        super().__init__(f"already written at {position}")
        self.position = position
