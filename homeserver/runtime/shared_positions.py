"""A number for each process of a host, in memory that all of them share: one look tells the largest, no question is asked.

A file in the server's own folder, mapped by each process. A process writes its own place alone, eight aligned bytes that the
processor stores at once.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

PATH = Path("run/log/positions")
"""Below the data directory."""
_WIDTH = 8
MOST = 64
"""Processes of a host."""


def begin(path: Path) -> None:
    """Before the processes are started: what an earlier life left says nothing about this one. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


class SharedPositions:
    """The mapping of one process; `place` is its own, of so many `processes`."""

    def __init__(self, path: Path, place: int, processes: int = MOST) -> None:
        """Raises `OSError`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, MOST * _WIDTH)
            self._map = mmap.mmap(descriptor, MOST * _WIDTH)
        finally:
            os.close(descriptor)
        self._values = memoryview(self._map).cast("Q")
        self._used = self._values[:processes]  # asked at every request: the fewer the better
        self._place = place

    def note(self, position: int) -> None:
        """This process has seen everything up to there."""
        self._values[self._place] = position

    def newest(self) -> int:
        """The newest that any of them has seen."""
        return max(self._used)

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self._used.release()
        self._values.release()
        self._map.close()
