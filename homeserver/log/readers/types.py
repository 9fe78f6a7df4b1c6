"""What a reader of the log declares, and what it is handed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from homeserver.log.entries import Entry, Position
from homeserver.storage.tx import Tx

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SLOW = 5.0
"""Seconds after which a delivery was slow."""

WHOLE = ""
"""The key of the only cursor of a reader that has one for all."""


class Item(NamedTuple, Generic[T]):
    """An entry as a reader is handed it."""

    position: Position
    value: T


class Slice(NamedTuple):
    """What was found in (after, upto], of some range of the log; `upto` may be before the end of what was asked for."""

    items: Sequence[Item[Any]]
    upto: Position


class Source(Protocol[T_co]):
    """How entries of one kind are had again from the table that keeps them. Owned by the feature that owns the table."""

    @property
    def entry_type(self) -> type[Entry]:
        """Of which entries it is; a class attribute will do."""
        ...

    def take(self, entry: Any) -> T_co | None:
        """What a reader is handed for an entry that was just written; None: nothing."""
        ...

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """The same of the oldest entries in (after, upto], at most `limit`, in order. One query, or few.

        What is no longer in the table (a receipt that a newer one replaced) is left out. Where there may be more than
        `limit`, the slice ends at the last row that was read.
        """
        ...


class GiveUp(Exception):
    """Raised by `deliver`: the other side will never take these items. They count as delivered; the message is logged."""


class NotNow(Exception):
    """Raised by `deliver`: the other side is to be left alone for so long. The same items come again then."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not for another {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A cursor that lacks what is not in memory, of which `resume` is asked."""

    key: str
    after: Position
    """It has everything up to here."""
    upto: Position
    """The reader has looked up to here."""
    failures: int
    """In a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses after failures in a row: `first` seconds, doubled each time up to `longest`, each up to `jitter` longer."""

    first: float = 1.0
    longest: float = 60.0
    jitter: float = 0.2

    def pause(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures (at least 1). `chance`: 0 to 1."""
        return min(self.first * 2.0 ** min(failures - 1, 32), self.longest) * (1 + self.jitter * chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A declaration."""

    name: str
    """Unique; names the lease, the cursors and the metrics. Never reused for another purpose."""
    sources: Sequence[Source[Any]]
    """What it wants of the log."""
    deliver: Callable[[str, Sequence[Item[Any]]], Awaitable[int | None]]
    """Called with the key of a cursor and the next items for it, in order, never two calls for one key at once.

    Returns when the other side has acknowledged them: all (None), or the first so many. Whatever it raises, the same items
    come again after a pause, but for `GiveUp`. Items may come again that were delivered before a process died: their
    position tells. Who asks for it with `ReaderService.nudge` is called with no items, too; what fails then is not repeated.
    """
    interest: Callable[[Sequence[Item[Any]]], Awaitable[Sequence[Collection[str]]]] | None = None
    """For each item the keys of the cursors that it concerns; answered from memory as far as possible. None: a reader
    with one cursor (`WHOLE`), which everything concerns.
    """
    prepare: Callable[[Sequence[str]], Awaitable[None]] | None = None
    """Called before deliveries with the keys of those that come next, so that what they need can be had together. A delivery must
    do without it, too.
    """
    resume: Callable[[Behind], Awaitable[Slice | None]] | None = None
    """Of a reader that knows what a cursor needs without looking at everything: what is for a cursor in (after, upto], or the
    beginning of it; less than all if less will do. None: look at everything. A reader that has this keeps nothing in
    memory for a cursor that goes on failing, and its cursors hold back no purge.
    """
    resume_together: Callable[[Sequence[Behind]], Awaitable[Sequence[Slice]]] | None = None
    """The same for several cursors, of a reader that finds that together: for all of them, or for the first so many and at least
    one. Called in place of `resume` where more than one cursor lacks something, and not twice at once.
    """
    repeatable: bool = False
    """Whether a delivery that comes again does no harm and costs little, as where a table of ours is brought up to date. Then
    what was delivered is recorded with the scan position, once a second, instead of after each delivery.
    """
    from_beginning: bool = False
    """Where a reader begins that has never run: at the beginning of the log, or at its end."""
    batch: int = 100
    """Items handed over at once."""
    at_once: int = 16
    """Deliveries under way."""
    struggling_at_once: int = 16
    """Besides these, deliveries of cursors whose last one failed or took longer than `SLOW`: they delay only each other."""
    group: Callable[[str], str] | None = None
    """Of a key, the other side that its deliveries go to, where that is the same for many. Groups take turns."""
    group_at_once: int = 0
    group_struggling_at_once: int = 0
    """How many of these places one group may have (0: all)."""
    may_be_slow: Callable[[str], bool] | None = None
    """Whether a delivery for a key may take long as far as is known of the other side: it then has a place of those that
    struggle. Answered from memory.
    """
    timeout: float = 60.0
    """Seconds that a delivery may take."""
    backoff: Backoff = field(default_factory=Backoff)
