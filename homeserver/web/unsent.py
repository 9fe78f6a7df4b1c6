"""What waits to be taken by clients, over all connections of a process: bounded.

Owns the sum. How long one client may stand still is `response_writer.py`.
"""

from __future__ import annotations

from typing import Final, Protocol

import structlog

from homeserver.runtime.clock import Clock

_log = structlog.get_logger("atrium.web")

LOOKED_AT_ONCE: Final = 1.0
"""Seconds for which what was found about who stands still is good enough."""


class Receiver(Protocol):
    """A connection, as far as it is waited for."""

    def unsent(self) -> int: ...

    def abort(self) -> None: ...


class _Waiting:
    __slots__ = ("left", "moved", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        """Bytes held in memory until all of it is taken."""
        self.left = size
        """Bytes not taken when it was last looked at."""
        self.moved = now
        """When some were taken last, as far as was seen."""


class UnsentAnswers:
    """Answers that are partly written. Beyond `most` bytes, those connections are aborted that have taken nothing for longest."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._waiting: dict[Receiver, _Waiting] = {}
        self._looked = 0.0
        self.size = 0
        """Bytes."""

    def add(self, connection: Receiver, size: int) -> None:
        """A connection has so many bytes to take before it is written to again."""
        self._waiting[connection] = _Waiting(size, self._clock.monotonic())
        self.size += size
        if self.size > self._most:
            self._make_room()

    def remove(self, connection: Receiver) -> None:
        """It has taken them, or is gone."""
        waiting = self._waiting.pop(connection, None)
        if waiting is not None:
            self.size -= waiting.size

    def _make_room(self) -> None:
        now = self._clock.monotonic()
        if now >= self._looked + LOOKED_AT_ONCE:
            self._looked = now
            for connection, waiting in self._waiting.items():
                if (left := connection.unsent()) < waiting.left:
                    waiting.left, waiting.moved = left, now
        ended = 0
        for connection in sorted(self._waiting, key=lambda each: self._waiting[each].moved):
            if self.size <= self._most:
                break
            self.remove(connection)
            connection.abort()
            ended += 1
        _log.warning("clients_too_slow", bytes=self.size, connections_ended=ended)
