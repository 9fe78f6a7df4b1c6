"""What people take for the same text, as one text: for finding people, rooms and messages by what somebody types.

Folded away are case, width (full-width Latin, half-width kana), accents of Latin, Greek and Cyrillic letters, points of Hebrew and
vowel signs of Arabic, ligatures, normal form, invisible characters and runs of white space. Kept are marks that make another letter
or word of it: dakuten (が is not か), vowel signs and viramas of Indic scripts, tone marks of Thai.

The result depends on nothing but the text: not on a locale, not on the database's. It is what is stored and compared, and never
shown. Whoever stores it stores `VERSION` with it, and folds anew what has another one. Words of scripts that are written without
spaces (`words` leaves them whole) are found as parts of the folded text; messages are cut into words and pairs (`cutting`).

References: Unicode Standard, chapter 3.13 (default case folding) and 5.18; UAX #15 (normalization forms); UTS #10, section 5.
"""

from __future__ import annotations

import unicodedata
from typing import Final

VERSION: Final = 1
"""Of the rules below."""
MAX_FOLDED: Final = 1_000
"""Characters of a text that count; one of them may become several."""
MAX_WORDS: Final = 16
"""Words of a search that count."""

_ACCENTS: Final = (
    (0x0300, 0x0370),  # combining diacritical marks
    (0x0483, 0x048A),  # of Cyrillic
    (0x0591, 0x05BE),  # points and accents of Hebrew, here and in the next lines
    (0x05BF, 0x05C0),
    (0x05C1, 0x05C3),
    (0x05C4, 0x05C6),
    (0x05C7, 0x05C8),
    (0x0640, 0x0641),  # tatweel, which lengthens a line
    (0x064B, 0x0660),  # vowel signs of Arabic
    (0x0670, 0x0671),
    (0x1AB0, 0x1B00),
    (0x1DC0, 0x1E00),
    (0x20D0, 0x2100),
    (0xFE00, 0xFE10),  # which form of a character is shown
    (0xFE20, 0xFE30),
    (0xE0100, 0xE01F0),
)
# Letters with a stroke or without a dot are letters of their own to Unicode, and the same to who types without them.
_LETTERS: Final = {
    "ł": "l",
    "ø": "o",
    "đ": "d",
    "ð": "d",
    "ħ": "h",
    "\u0131": "i",  # without a dot
    "ŧ": "t",
    "ƀ": "b",
    "ɨ": "i",
    "ʉ": "u",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "ŋ": "n",
}
_TABLE: Final[dict[int, str | None]] = {
    **{code: None for start, end in _ACCENTS for code in range(start, end)},
    **{ord(letter): plain for letter, plain in _LETTERS.items()},
}
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def fold(text: str, most: int = MAX_FOLDED) -> str:
    """The first `most` characters folded, with single spaces and none at the ends. Folding it again changes nothing."""
    text = text[:most]
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKD", text).casefold()
        # What case folding puts together may come apart (ΐ), and what comes apart may have capitals (℡).
        folded = unicodedata.normalize("NFKD", folded).casefold().translate(_TABLE)
        folded = unicodedata.normalize("NFC", folded)
    if not folded.isprintable():
        folded = "".join(map(_visible, folded))
    return " ".join(folded.split())


def words(text: str) -> list[str]:
    """What somebody looks for, folded and cut at white space: the first `MAX_WORDS` different ones."""
    return list(dict.fromkeys(fold(text).split()))[:MAX_WORDS]


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in _INVISIBLE else character
