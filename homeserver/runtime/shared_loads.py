"""How busy each process of a host is, in memory that all of them share: one look tells, nobody is asked.

A file in the server's own folder, mapped by each process; a process writes its own row alone.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

PATH: Final = Path("run/loads")
"""Below the data directory."""
MOST: Final = 64
"""Processes of a host."""
LIVES: Final = 2.0
"""Seconds after its last beat in which a process counts as there."""
_NUMBERS: Final = 8
_SIZE: Final = MOST * _NUMBERS * 8


class Load(NamedTuple):
    """What a process says of itself."""

    place: int
    """Which one it is."""
    beat: int
    """When it said so: microseconds of the monotonic clock, which all processes of a host share; 0: it does not serve."""
    busy: float
    """The part of its time in which it computed, or stood in the queue for a processor."""
    connections: int
    leads: bool
    """Whether it writes for the others."""
    wanted: int
    """How many processes it thinks should serve now; what the first of them thinks counts."""


def begin(path: Path) -> None:
    """Before the processes are started: nobody serves. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


class SharedLoads:
    """The mapping of one process; `place` is its own, of so many `processes`."""

    def __init__(self, path: Path, place: int, processes: int) -> None:
        """Raises `OSError`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._values = memoryview(self._map).cast("Q")
        self._processes = processes
        self.place = place
        self._own = place * _NUMBERS

    def note(self, beat: int, busy: float, *, leads: bool, wanted: int) -> None:
        """Say how this process is."""
        values, own = self._values, self._own
        values[own + 1] = int(busy * 1000)
        values[own + 3] = int(leads)
        values[own + 4] = wanted
        values[own] = beat

    def count(self, connections: int) -> None:
        """Say how many connections this process has."""
        self._values[self._own + 2] = connections

    def leave(self) -> None:
        """This process serves no more."""
        self._values[self._own] = 0

    def of(self, place: int) -> Load:
        """What a process has last said."""
        beat, busy, connections, leads, wanted = self._values[place * _NUMBERS : place * _NUMBERS + 5]
        return Load(place, beat, busy / 1000, connections, bool(leads), wanted)

    def living(self, now: int) -> list[Load]:
        """Who serves, the first first: who leads, then by number. `now`: as `Load.beat`."""
        since = max(1, now - int(LIVES * 1e6))
        found = [load for load in map(self.of, range(self._processes)) if load.beat >= since]
        found.sort(key=lambda load: (not load.leads, load.place))
        return found

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self._values.release()
        self._map.close()
