"""Whom a slice of the log concerns."""

from __future__ import annotations

from typing import cast

from homeserver.log.entries import Entry, Written
from homeserver.log.tail import Tail
from homeserver.sync.log_slices import MAX_LOOKED_THROUGH, LogSlices
from homeserver.sync.recipients import NOBODY, RecipientIndex, RecipientSet
from homeserver.sync.types import Recipients

ALICE, BOB = 1, 2
KITCHEN, CELLAR = frozenset({10}), frozenset({11})


class Letter(Entry, frozen=True):
    to: int


class Noise(Entry, frozen=True):
    room: int


class Alarm(Entry, frozen=True):
    """Of everybody's concern."""


class Secret(Entry, frozen=True):
    """No stream reads it."""


class Log:
    """As much of the tail as slicees read."""

    floor = 0

    def __init__(self, *entries: Entry) -> None:
        self.entries = [Written(position, entry) for position, entry in enumerate(entries, 1)]

    def since(self, position: int) -> list[Written[Entry]]:
        return self.entries[position:]


def recipients() -> RecipientIndex:
    found = RecipientIndex()
    found.add(
        {Letter: lambda letter: Recipients((letter.to,)), Noise: lambda noise: Recipients((), noise.room)}
    )
    found.add({Letter: lambda _: Recipients(), Alarm: lambda _: Recipients(everybody=True)})
    return found


def concern(*entries: Entry) -> RecipientSet:
    return LogSlices(cast("Tail", Log(*entries)), recipients()).concern(0, len(entries))


def test_a_slice_concerns_whom_any_of_its_entries_concerns() -> None:
    found = concern(Letter(ALICE), Secret(), Noise(11))
    assert found.reaches(ALICE, frozenset())
    assert found.reaches(BOB, CELLAR)
    assert not found.reaches(BOB, KITCHEN)


def test_what_concerns_everybody_concerns_strangers_too() -> None:
    assert concern(Letter(ALICE), Alarm()).reaches(BOB, frozenset())


def test_what_no_stream_reads_and_nothing_at_all_concern_nobody() -> None:
    assert not concern(Secret()).reaches(ALICE, KITCHEN)
    assert concern() is NOBODY


def test_a_long_slice_is_taken_to_concern_everybody() -> None:
    assert concern(*[Secret()] * (MAX_LOOKED_THROUGH + 1)).reaches(ALICE, frozenset())
