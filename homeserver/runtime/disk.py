"""Whether there is room left to write: what `/health` says of the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from homeserver.runtime.clock import Clock

NEEDED = 32 << 20
"""Bytes: the next two segments of the database's write-ahead log."""
REMEMBERED = 30.0
"""Seconds that a refused write counts: small ones may still find a place in what the database has reserved."""


class DiskSpace:
    """The room for the database: measured where it is ours, else known by what it refused."""

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        """`folder`: where the embedded database is; None: it is somebody else's."""
        self._folder = folder
        self._clock = clock
        self._refused_at: float | None = None

    def refused(self) -> None:
        """The database had no room for a write."""
        self._refused_at = self._clock.monotonic()

    def trouble(self) -> str | None:
        """In words, if nothing or hardly anything can be written."""
        if self._folder is not None and shutil.disk_usage(self._folder).free < NEEDED:
            return "the disk is full"
        if self._refused_at is not None and self._clock.monotonic() - self._refused_at < REMEMBERED:
            return "the database has no room to write"
        return None
