"""Glob patterns: `*` is any run of characters and, where the pattern's kind knows it, `?` any one; nothing else is special.

Both patterns and texts are anybody's. So nothing is compiled (a regular expression of 900 kB takes a second to make), a match
never looks back, and what it costs is counted: whoever matches hands in a `WorkBudget`, which ends a match that costs too much.

spec: appendices/#glob-style-matching; client-server-api/#filtering (`*` alone, case counts)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

CACHE_SIZE: Final = 4096
MAX_REMEMBERED: Final = 128
"""Characters of a pattern that is remembered: with more, stars alone would make a hundred kilobytes of each."""
STEP: Final = 64
"""What looking at one place of a text costs, in characters of a text that is searched."""
AGAIN: Final = 4 * STEP
"""The same where a search goes on from a place that did not fit: up to 2 us, of long pieces most of it to begin anew."""

# spec: client-server-api/#conditions: a word ends at what is none of A-Z, a-z, 0-9, _
_WORD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


class OutOfWork(Exception):
    """More was to be done than was allowed."""


class WorkBudget:
    """What may still be spent: the mutable budget of one look at something. The unit is a character searched (some ns)."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        """Raises `OutOfWork`."""
        self.left -= amount
        if self.left < 0:
            raise OutOfWork


def fold(text: str) -> str:
    """The text without its case, character for character, so that `?` goes on counting characters."""
    if text.isascii():
        return text.lower()
    # The only two letters whose small form depends on what is around them, or is longer.
    return text.replace("\u0130", "i").lower().replace("\u03c2", "\u03c3")


class Glob:
    """A pattern taken apart. Case counts: who wants to ignore it folds both the pattern and the text."""

    __slots__ = ("_first", "_last", "_middle", "_one", "length")

    def __init__(self, pattern: str) -> None:
        # What stands between stars has a fixed length, so taking each piece where it first fits is enough.
        pieces = [_Piece(piece, marks=True) for piece in pattern.split("*")]
        self._one = len(pieces) == 1
        self._first = pieces[0]
        self._last = pieces[-1]
        self._middle = [piece for piece in pieces[1:-1] if piece.length]
        self.length = sum(piece.length for piece in pieces)
        """Characters a text must have at least."""

    def matches(self, text: str, work: WorkBudget) -> bool:
        """Whether the whole text fits. Raises `OutOfWork`."""
        work.spend(STEP)
        if len(text) < self.length or (self._one and len(text) != self.length):
            return False
        if not self._first.is_at(text, 0, work):
            return False
        at = self._through_middle(text, self._first.length, work)
        tail = len(text) - self._last.length
        return self._one or (0 <= at <= tail and self._last.is_at(text, tail, work))

    def matches_word(self, text: str, work: WorkBudget) -> bool:
        """Whether a part of the text fits that begins and ends where words do. Raises `OutOfWork`."""
        work.spend(STEP)
        if len(text) < self.length:
            return False
        begin = self._first.find(text, 0, work, begins=True, ends=self._one)
        if begin < 0 or self._one:
            return begin >= 0
        at = self._through_middle(text, begin + self._first.length, work)
        return at >= 0 and self._last.find(text, at, work, ends=True) >= 0

    def _through_middle(self, text: str, at: int, work: WorkBudget) -> int:
        """Where the pieces between the outer ones end at the earliest; -1: nowhere."""
        for piece in self._middle:
            at = piece.find(text, at, work)
            if at < 0:
                return -1
            at += piece.length
        return at


class StarGlob:
    """A pattern in which nothing but `*` is special, and case counts, for texts as short as types of events: what it costs is
    bounded by how many stars and characters there are, some tenths of a microsecond each.
    """

    __slots__ = ("_first", "_last", "_length", "_middle")

    def __init__(self, pattern: str) -> None:
        """`pattern`: with at least one star."""
        self._first, *middle, self._last = pattern.split("*")
        self._middle = [piece for piece in middle if piece]
        self._length = len(pattern) - pattern.count("*")

    def matches(self, text: str) -> bool:
        """Whether the whole text fits."""
        if len(text) < self._length or not text.startswith(self._first) or not text.endswith(self._last):
            return False
        at, end = len(self._first), len(text) - len(self._last)
        for piece in self._middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


class _Piece:
    """What stands between two stars: literal runs with a fixed number of characters between them."""

    __slots__ = ("_anchor", "_offset", "_runs", "length")

    def __init__(self, text: str, *, marks: bool) -> None:
        self.length = len(text)
        runs: list[tuple[int, str]] = []
        at = 0
        for run in text.split("?") if marks else [text]:
            if run:
                runs.append((at, run))
            at += len(run) + 1
        longest = max(runs, key=lambda each: len(each[1]), default=(0, ""))
        self._offset, self._anchor = longest
        self._runs = [run for run in runs if run is not longest]

    def is_at(self, text: str, at: int, work: WorkBudget) -> bool:
        """Whether it stands at a place of the text."""
        work.spend(STEP * (1 + len(self._runs)) + self.length)
        return (
            0 <= at <= len(text) - self.length
            and text.startswith(self._anchor, at + self._offset)
            and all(text.startswith(run, at + offset) for offset, run in self._runs)
        )

    def find(self, text: str, at: int, work: WorkBudget, *, begins: bool = False, ends: bool = False) -> int:
        """The first place not before `at`, at the beginning or end of words if asked for; -1: there is none."""
        until = len(text) - self.length
        # Short patterns are searched at about one character a nanosecond; in the worst case each place costs their length.
        price = 1 + len(self._anchor) // 8
        step = STEP
        while at <= until:
            found = text.find(self._anchor, at + self._offset, until + self._offset + len(self._anchor))
            if found < 0:
                work.spend(price * (until - at + 1))
                return -1
            work.spend(step + STEP * len(self._runs) + price * (found - self._offset - at))
            at = found - self._offset
            if (
                all(text.startswith(run, at + offset) for offset, run in self._runs)
                and not (begins and at > 0 and text[at - 1] in _WORD)
                and not (ends and at < until and text[at + self.length] in _WORD)
            ):
                return at
            at += 1
            step = AGAIN
        return -1


def glob(pattern: str) -> Glob:
    """A pattern that ignores case, for texts that were folded; short ones are taken apart once."""
    return _remembered(pattern) if len(pattern) <= MAX_REMEMBERED else Glob(fold(pattern))


@lru_cache(maxsize=CACHE_SIZE)
def _remembered(pattern: str) -> Glob:
    return Glob(fold(pattern))


def has_word(text: str, word: str, work: WorkBudget) -> bool:
    """Whether a text, nothing of which is special, stands in another where words begin and end. Raises `OutOfWork`."""
    return _Piece(word, marks=False).find(text, 0, work, begins=True, ends=True) >= 0


def is_literal(pattern: str) -> bool:
    """Whether the pattern fits one text only (whatever its case)."""
    return "*" not in pattern and "?" not in pattern
