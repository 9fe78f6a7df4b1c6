"""Over how many processes the work of a host is spread: as few as are enough.

A process is woken for each request; two processes that share the work are woken more often than one that has all of it, write
smaller batches, and have to tell each other. So a further one takes part only when those that do have little time left, and the
machine has a processor for it. See docs/decisions/0034-as-few-processes-as-are-enough.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from homeserver.runtime.shared_loads import Load

EVERY: Final = 0.5
"""Seconds between looks."""
FULL: Final = 0.7
"""Of their time that is taken on average, from which on those that serve want another one beside them."""
FULL_FOR: Final = 2
"""Looks in a row at which they have to be full."""
SPARE: Final = 0.5
"""Processors that must be idle for another one to be of use: with less, what sharing costs eats what it brings."""
LOOSE: Final = 0.5
"""What each would have to do if they were one fewer, at most."""
LOOSE_FOR: Final = 20
"""Looks in a row at which one fewer would have done."""
CONNECTIONS: Final = 4_000
"""Connections of one process from which on another one takes some, however little there is to do."""
_NEW: Final = 0.5
"""How much the last look counts beside those before it."""


class Spreading:
    """What the first process goes by; the others follow it, so that one of them knows when it takes over."""

    def __init__(self) -> None:
        self.wanted = 1
        self._full = self._loose = 0

    def follow(self, wanted: int) -> None:
        """Another process decides."""
        self.wanted = max(1, wanted)
        self._full = self._loose = 0

    def decide(self, living: Sequence[Load], spare: float) -> int:
        """How many shall serve, of those that live, the first first. `spare`: processors that have nothing to do."""
        if not living:
            return self.wanted
        serving = living[: self.wanted]
        self.wanted = len(serving)
        busy = sum(load.busy for load in living)
        least = 1 + sum(load.connections for load in living) // CONNECTIONS
        full = sum(load.busy for load in serving) > FULL * len(serving) and spare >= SPARE
        self._full = self._full + 1 if full else 0
        loose = self.wanted > least and busy < LOOSE * (self.wanted - 1)
        self._loose = self._loose + 1 if loose else 0
        if self.wanted < len(living) and (self._full >= FULL_FOR or self.wanted < least):
            self.wanted += 1
            self._full = self._loose = 0
        elif self._loose >= LOOSE_FOR:
            self.wanted -= 1
            self._full = self._loose = 0
        return self.wanted


class OwnTime:
    """How busy this process's main thread is: computing, or waiting for a processor. See `schedstat` of proc(5); where the kernel
    does not tell (it can be built without), computing alone.
    """

    def __init__(self, now: float, *, path: str = "/proc/self/schedstat") -> None:
        """`now`: monotonic seconds, as for `look`."""
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1
        self._at, self._taken = now, self._read()
        self.busy = 0.0

    def look(self, now: float) -> float:
        """The part of the last moments that was taken, 0 to 1."""
        seconds, taken = max(now - self._at, 1e-3), self._read()
        part = min(1.0, (taken - self._taken) / seconds)
        self._at, self._taken = now, taken
        self.busy += (part - self.busy) * _NEW
        return self.busy

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> float:
        if self._file < 0:
            return time.thread_time()
        computed, queued, *_ = os.pread(self._file, 128, 0).split()
        return (int(computed) + int(queued)) / 1e9


class MachineTime:
    """How many processors, of those that this process may use, have nothing to do, or nothing but what gives way. See proc(5)."""

    def __init__(self) -> None:
        self._names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        self._before = self._read()
        self.spare = 0.0

    def look(self) -> float:
        """As of the last moments."""
        before, self._before = self._before, self._read()
        total = self._before[1] - before[1]
        if total > 0:
            part = (self._before[0] - before[0]) / total
            self.spare += (part * len(self._names) - self.spare) * _NEW
        return self.spare

    def _read(self) -> tuple[int, int]:
        """Ticks that were free, and all, of these processors together."""
        free = every = 0
        with Path("/proc/stat").open(encoding="ascii") as file:
            for line in file:
                name, *told = line.split()
                if not name.startswith("cpu"):
                    break  # what follows may be long
                if name in self._names:
                    user, nice, system, idle, waits, *rest = map(int, told[:8])
                    free += nice + idle + waits
                    every += user + nice + system + idle + waits + sum(rest)
        return free, every
