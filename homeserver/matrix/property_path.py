"""Dot-separated paths to a property inside an event, as push rules and filters write them.

spec: appendices/#dot-separated-property-paths (CHECKLIST FILT-03)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_PART: Final = re.compile(r"(?:[^.\\]|\\.?)*", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\([.\\])")
_NEEDS_ESCAPE: Final = re.compile(r"[.\\]")


def split_path(path: str) -> list[str]:
    r"""The keys a path names, outermost first: `content.m\.relates_to` is `content`, then `m.relates_to`.

    A backslash before anything but a dot or a backslash stands for itself.
    """
    if "\\" not in path:
        return path.split(".")
    keys: list[str] = []
    position = 0
    while True:
        part = _PART.match(path, position)
        assert part is not None  # the empty part matches anywhere
        keys.append(_ESCAPED.sub(r"\1", part[0]))
        position = part.end() + 1
        if position > len(path):
            return keys


def join_path(keys: Sequence[str]) -> str:
    """The path that names these keys."""
    return ".".join(_NEEDS_ESCAPE.sub(r"\\\g<0>", key) for key in keys)
