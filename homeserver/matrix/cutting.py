"""Words of folded text: where messages are found by what somebody types.

Folded by `folding`, text is cut at whatever is no letter, digit or mark. Scripts that are written without spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, whose words grow particles at their ends, are cut into overlapping pairs
of characters, with the last character of a run by itself: 東京都 is 東京, 京都, 都. So each part of a run that is two characters or
longer is found as a row of pairs, and a single character as the beginning of one.

The result depends on nothing but the text; whoever stores it stores `VERSION` with it.

References: UAX #29 (what a word is, and why the scripts above need a dictionary for it); the n-gram analysis of
Lucene's CJKBigramFilter, which this resembles.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from homeserver.matrix import folding
from homeserver.matrix.folding import fold

VERSION: Final = 100 * folding.VERSION + 1
"""Of these rules together with those of folding."""
MAX_TEXT: Final = 65_536
"""Characters of a text that count: no event has more."""
MAX_WORD: Final = 64
"""Characters of a word that count; what follows makes no other word of it."""
MAX_TOKENS: Final = 64
"""Words and pairs of a search that count."""
MIN_PREFIX: Final = 2
"""Characters that the last word of a search needs to be taken for the beginning of one."""

_PAIRED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f"  # Burmese
    "\u1780-\u17d3\u17dd\u17e0-\u17e9"  # Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"  # Han, Hangul
)
# `\w` of `re` knows no combining marks, which are parts of words in Indic scripts.
_MARKS: Final = "".join(
    chr(code)
    for start, end in ((0x0300, 0x1E00), (0x20D0, 0x2100), (0xA66F, 0xABF0), (0x11000, 0x11A00))
    for code in range(start, end)
    if unicodedata.category(chr(code))[0] == "M"
)
_RUN: Final = re.compile(f"[{_PAIRED}]+|(?:(?![{_PAIRED}])(?:[^\\W_]|[{_MARKS}]))+")
_ASCII_RUN: Final = re.compile(r"[^\W_]+", re.ASCII)
"""The same in a text without any of these, five times as fast."""
_FIRST_PAIRED: Final = re.compile(f"[{_PAIRED}]")
_QUOTES: Final = str.maketrans(dict.fromkeys("“”„‟«»「」『』", '"'))


class Token(NamedTuple):
    """What is looked for at one place of a text."""

    text: str
    prefix: bool
    """Whether more may follow."""


class Term(NamedTuple):
    """What somebody looks for: rows of tokens that each must be somewhere in the text, one after the other."""

    rows: tuple[tuple[Token, ...], ...]
    words: tuple[str, ...]
    """Runs as they were typed, folded: for showing what was found."""
    prefix: str | None
    """The last of them, where it may be the beginning of a word."""

    def whole(self) -> Term:
        """The same, with a last word that is a whole word."""
        rows = tuple(
            tuple(Token(token.text, token.prefix and is_paired(token.text)) for token in row)
            for row in self.rows
        )
        return Term(rows, self.words, None)


def cut(text: str) -> list[str]:
    """The words and pairs of a text, in order; a row of them that follow each other is a phrase."""
    folded = fold(text, MAX_TEXT)
    if folded.isascii():  # no script of it is cut into pairs
        return [run[:MAX_WORD] for run in runs(folded)]
    found: list[str] = []
    for run in runs(folded):
        if _FIRST_PAIRED.match(run):
            found += [run[at : at + 2] for at in range(len(run))]
        else:
            found.append(run[:MAX_WORD])
    return found


def runs(text: str) -> list[str]:
    """The words of a text as they stand there; a run of characters of a script without spaces is one."""
    return (_ASCII_RUN if text.isascii() else _RUN).findall(text)


def is_paired(run: str) -> bool:
    """Whether a run is of a script that is cut into pairs."""
    return _FIRST_PAIRED.match(run) is not None


def read_term(text: str) -> Term:
    """What somebody looks for. Words between quotation marks follow each other; so do the parts of what is written without a
    space (`well-known`, `report.pdf`). The last word may be the beginning of one, unless it is quoted.
    """
    parts = fold(text.translate(_QUOTES)).split('"')
    rows: list[tuple[Token, ...]] = []
    words: list[str] = []
    prefix: str | None = None
    left = MAX_TOKENS
    for number, part in enumerate(parts):
        quoted = number % 2 == 1
        closed = quoted and number < len(parts) - 1
        for chunk in [part] if quoted else part.split():
            found = runs(chunk)
            if not found or left <= 0:
                continue
            row = _row(found, open_end=not closed)[:left]
            left -= len(row)
            rows.append(row)
            words += found
            prefix = found[-1] if row[-1].prefix and not is_paired(found[-1]) else None
    last_open = len(rows)
    kept = tuple(_closed(row) if n + 1 < last_open else row for n, row in enumerate(rows))
    return Term(tuple(dict.fromkeys(kept)), tuple(dict.fromkeys(words)), prefix)


def _row(found: list[str], *, open_end: bool) -> tuple[Token, ...]:
    row: list[Token] = []
    for number, run in enumerate(found):
        last = number == len(found) - 1
        if not is_paired(run):
            row.append(Token(run[:MAX_WORD], last and open_end and len(run) >= MIN_PREFIX))
        elif len(run) == 1:
            row.append(Token(run, last))
        else:
            # What stands at the end of a row may go on; what another script follows may not.
            row += [Token(run[at : at + 2], False) for at in range(len(run) - 1 if last else len(run))]
    return tuple(row)


def _closed(row: tuple[Token, ...]) -> tuple[Token, ...]:
    """Only the last word may be the beginning of one; a single character is the beginning of a pair anywhere."""
    last = row[-1]
    return (*row[:-1], Token(last.text, last.prefix and is_paired(last.text)))
