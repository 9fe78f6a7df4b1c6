"""Says of a transport that nobody has closed whose it is.

Warnings are errors, and that of an unclosed transport fails whichever test runs while it is collected: its words are all there is
to find the one that has left it.
"""

from asyncio import selector_events
from typing import Any


def tell_whose() -> None:
    """From now on the words for a transport name its protocol, and both ends."""
    transport: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]  # no other place tells
    plain = transport.__repr__

    def told(self: Any) -> str:
        ends = [self._extra.get(name) for name in ("sockname", "peername")]
        return f"{plain(self)} of {type(self._protocol).__qualname__}, {ends[0]} to {ends[1]}, {self._loop!r}"

    transport.__repr__ = told
