"""For sinks whose rows say what counts now: who made a change from what does not count any more has to make it again.

Looking and writing are one under the lock on the head, so that of two who change something at once, in whatever
processes, the second sees what the first has written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from homeserver.log.entries import Append, Conflict, Entry, Position, Refused

OF_THIS_BATCH = -1
"""Stands where a position is not given out yet: nobody can have built on it."""


class BuiltOn(Protocol):
    """An entry that may have been made from an earlier one."""

    @property
    def built_on(self) -> Position | None:
        """Where that one stands, 0 if there was none; None: it replaces whatever there is."""
        ...


B = TypeVar("B", bound=BuiltOn)
E = TypeVar("E", bound=Entry)


def entries_of(entry_type: type[E], appends: Sequence[Append]) -> list[list[E]]:
    """The entries of one type, for each append."""
    return [[entry for entry in append.entries if isinstance(entry, entry_type)] for append in appends]


def outdated(
    appends: Sequence[Sequence[B]],
    key: Callable[[B], Hashable],
    positions: Mapping[Any, Position],
    refused: Refused,
) -> Refused:
    """Appends with an entry that was made from what is no longer the last: number -> `Conflict`.

    Args:
        appends: the entries of each append, those that change nothing left out.
        key: what of an entry says which of all it is the next of.
        positions: where those stand that are stored.
        refused: what will not be written anyhow.
    """
    stand = dict(positions)
    conflicts: Refused = {}
    for number, entries in enumerate(appends):
        if number in refused or not entries:
            continue
        if any(
            entry.built_on is not None and stand.get(key(entry), 0) != entry.built_on for entry in entries
        ):
            conflicts[number] = Conflict("what this was made from has changed")
            continue
        stand.update(dict.fromkeys(map(key, entries), OF_THIS_BATCH))
    return conflicts


def keys_of(appends: Iterable[Sequence[B]], key: Callable[[B], Hashable]) -> list[Any]:
    """Keys of all entries that were made from something."""
    return [key(entry) for entries in appends for entry in entries if entry.built_on is not None]
