"""Which cursors of a reader deliver next, and which are told of what is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

REMEMBERED = 64
"""Sets of keys of which it is remembered who is to be told."""


class Lane:
    """Cursors that are ready, first come, first served, and how many of such deliver at once."""

    __slots__ = ("at_once", "keys", "running")

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.keys: deque[str] = deque()
        self.running = 0

    @property
    def may_begin(self) -> bool:
        """Whether one is ready, and has a place."""
        return bool(self.keys) and self.running < self.at_once


class BehindKeys:
    """Cursors that are not told of what is found, since they read it again anyway."""

    __slots__ = ("_keys", "_others")

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._others: dict[frozenset[str], frozenset[str]] = {}
        """What was asked lately, and the answers."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """It reads again what it lacks."""
        if key not in self._keys:
            self._keys.add(key)
            self._others.clear()

    def discard(self, key: str) -> None:
        """It is to be told."""
        if key in self._keys:
            self._keys.remove(key)
            self._others.clear()

    def others(self, keys: Collection[str]) -> Collection[str]:
        """Those that are to be told. One look where the same frozen set is asked about again."""
        if not self._keys or not isinstance(keys, frozenset):
            return keys
        found = self._others.get(keys)
        if found is None:
            if len(self._others) >= REMEMBERED:
                self._others.clear()
            found = self._others[keys] = keys - self._keys
        return found
