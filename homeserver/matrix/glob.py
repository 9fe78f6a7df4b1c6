"""Glob patterns: `*` is any run of characters, `?` is any one; nothing else is special, and case does not matter.

The time a match takes grows with the text and the pattern, never with their powers: patterns are anybody's, and so are texts.

spec: appendices/#glob-style-matching
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

CACHE_SIZE: Final = 4096
_FLAGS: Final = re.IGNORECASE | re.DOTALL
# spec: client-server-api/#conditions: a word ends at what is none of A-Z, a-z, 0-9, _
_NOT_AFTER_WORD: Final = "(?<![A-Za-z0-9_])"
_NOT_BEFORE_WORD: Final = "(?![A-Za-z0-9_])"


class Glob:
    """A compiled pattern."""

    __slots__ = ("_first", "_last", "_last_length", "_middle", "_one", "_word")

    def __init__(self, pattern: str) -> None:
        # What stands between stars has a fixed length, so taking each piece where it first fits is enough.
        pieces = pattern.split("*")
        first, last = _piece(pieces[0]), _piece(pieces[-1])
        self._one = len(pieces) == 1
        self._first = re.compile(first, _FLAGS)
        self._last = re.compile(last, _FLAGS)
        self._last_length = len(pieces[-1])
        self._middle = [re.compile(_piece(piece), _FLAGS) for piece in pieces[1:-1] if piece]
        self._word = (
            re.compile(_NOT_AFTER_WORD + first + (_NOT_BEFORE_WORD if self._one else ""), _FLAGS),
            re.compile(last + _NOT_BEFORE_WORD, _FLAGS),
        )

    def matches(self, text: str) -> bool:
        """Whether the whole text fits."""
        if self._one:
            return self._first.fullmatch(text) is not None
        begin = self._first.match(text)
        if begin is None:
            return False
        at = self._through_middle(text, begin.end())
        tail = len(text) - self._last_length
        return at is not None and tail >= at and self._last.match(text, tail) is not None

    def matches_word(self, text: str) -> bool:
        """Whether a part of the text fits that begins and ends where words do."""
        begin = self._word[0].search(text)
        if begin is None or self._one:
            return begin is not None
        at = self._through_middle(text, begin.end())
        return at is not None and self._word[1].search(text, at) is not None

    def _through_middle(self, text: str, at: int) -> int | None:
        for piece in self._middle:
            found = piece.search(text, at)
            if found is None:
                return None
            at = found.end()
        return at


@lru_cache(maxsize=CACHE_SIZE)
def glob(pattern: str) -> Glob:
    """The pattern, compiled once."""
    return Glob(pattern)


def is_literal(pattern: str) -> bool:
    """Whether the pattern fits one text only (whatever its case)."""
    return "*" not in pattern and "?" not in pattern


def _piece(text: str) -> str:
    return ".".join(re.escape(part) for part in text.split("?"))
