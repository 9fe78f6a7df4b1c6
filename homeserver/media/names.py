"""Names and types of files as they are told, and as they may be told on.

spec: client-server-api/#serving-inline-content (CHECKLIST MEDIA-03, MEDIA-04)
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

MAX_FILENAME: Final = 255
"""Characters."""
MAX_CONTENT_TYPE: Final = 255
UNKNOWN_TYPE: Final = "application/octet-stream"

INLINE: Final = frozenset(
    {
        "text/css",
        "text/plain",
        "text/csv",
        "application/json",
        "application/ld+json",
        "image/jpeg",
        "image/gif",
        "image/png",
        "image/apng",
        "image/webp",
        "image/avif",
        "video/mp4",
        "video/webm",
        "video/ogg",
        "video/quicktime",
        "audio/mp4",
        "audio/webm",
        "audio/aac",
        "audio/mpeg",
        "audio/ogg",
        "audio/wave",
        "audio/wav",
        "audio/x-wav",
        "audio/x-pn-wav",
        "audio/flac",
        "audio/x-flac",
    }
)
"""What browsers may show beside a page without harm."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CONTENT_TYPE = re.compile(rf'{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*', re.ASCII)
_PLAIN = re.compile(r"[ !#-$&-.0-\[\]-~]+", re.ASCII)
_SEPARATORS = re.compile(r"[/\\]")
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Parts of words and of emoji, although they are format characters."""


def clean_content_type(told: str) -> str:
    """The type as it may stand in a header; '' for what is none."""
    told = told.strip()
    if len(told) > MAX_CONTENT_TYPE or _CONTENT_TYPE.fullmatch(told) is None:
        return ""
    return told


def clean_filename(told: str | None) -> str | None:
    """The name without what makes it a path, breaks a line or turns the reading direction around; None if nothing is left.

    Letters of every script stay as they are.
    """
    if not told:
        return None
    name = _SEPARATORS.sub("_", told[: 4 * MAX_FILENAME])
    name = "".join(
        "_" if unicodedata.category(each) in _HARMFUL and each not in _JOINERS else each for each in name
    ).strip()
    if len(name) > MAX_FILENAME:
        stem, dot, suffix = name.rpartition(".")
        keep = len(suffix) + 1 if dot and len(suffix) < 16 else 0
        name = (stem if keep else name)[: MAX_FILENAME - keep] + (dot + suffix if keep else "")
    return None if set(name) <= {"."} else name


def may_be_inline(content_type: str) -> bool:
    """Whether a browser may show it."""
    return content_type.partition(";")[0].strip().lower() in INLINE


def disposition(content_type: str, filename: str | None) -> str:
    """The value of `Content-Disposition`. spec: op:getContentAuthed, RFC 6266"""
    kind = "inline" if may_be_inline(content_type) else "attachment"
    return kind if filename is None else f"{kind}; {_parameter(filename)}"


def _parameter(filename: str) -> str:
    # A quoted string with a percent sign or a backslash means different names to different browsers.
    if _PLAIN.fullmatch(filename):
        return f'filename="{filename}"'
    return f"filename*=utf-8''{quote(filename, safe='')}"
