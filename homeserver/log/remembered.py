"""What was read from the database, kept until the log says that it has changed: the core of projections that load on demand.

A value read while its like changed may be old by the time it is here, so it is kept only if nothing changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from homeserver.runtime.cache import Cache

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values in a cache, none of them older than the last change of its key."""

    def __init__(self, values: Cache[K, V]) -> None:
        self._values = values
        self.version = 0
        """Note it before reading; `add` wants it back."""

    def get(self, key: K) -> V | None:
        """The value, if it is known."""
        return self._values.get(key)

    def get_all(self, keys: Iterable[K]) -> dict[K, V | None]:
        """Each value, if it is known."""
        get = self._values.get
        return {key: get(key) for key in keys}

    def add(self, key: K, value: V, version: int, size: int) -> None:
        """Remember a value of about `size` bytes, unless anything changed since `version` was noted."""
        if version == self.version:
            self._values.put(key, value, size)

    def changed(self, key: K) -> None:
        """Forget one value."""
        self.version += 1
        self._values.pop(key)

    def reset(self) -> None:
        """Forget everything: entries were missed."""
        self.version += 1
        self._values.clear()
