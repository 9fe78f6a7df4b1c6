"""What was read from the database, kept until the log says that it has changed: the core of projections that load on demand.

A value read while its like changed may be old by the time it is here, so it is kept only if nothing changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `limit` values; the one added first makes room."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[K, V] = {}
        self.version = 0
        """Note it before reading; `add` wants it back."""

    def get(self, key: K) -> V | None:
        """The value, if it is known."""
        return self._values.get(key)

    def get_all(self, keys: Iterable[K]) -> dict[K, V | None]:
        """Each value, if it is known."""
        get = self._values.get
        return {key: get(key) for key in keys}

    def add(self, key: K, value: V, version: int) -> None:
        """Remember, unless anything changed since `version` was noted."""
        if version != self.version:
            return
        if key not in self._values and len(self._values) >= self._limit:
            del self._values[next(iter(self._values))]
        self._values[key] = value

    def changed(self, key: K) -> None:
        """Forget one value."""
        self.version += 1
        self._values.pop(key, None)

    def reset(self) -> None:
        """Forget everything: entries were missed."""
        self.version += 1
        self._values.clear()
