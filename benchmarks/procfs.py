"""What a process tree has cost: CPU seconds and resident memory, read from /proc.

A process that ends takes its counters with it, so a sum over living processes would lose every short-lived database
backend. But when its parent reaps it, the kernel adds what it used to the parent's `cutime` and `cstime`. Therefore the
sum of utime + stime + cutime + cstime over the living tree never loses a child, whenever it ended.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Stat:
    """One process: its parent, the CPU seconds of it and of its reaped children, its resident bytes."""

    pid: int
    parent: int
    cpu_seconds: float
    resident_bytes: int


def parse_stat(line: str) -> Stat:
    """Read a line of /proc/PID/stat; the command's name in it may hold spaces and parentheses.

    Source: proc_pid_stat(5); fields are counted from 1 there, and from the state (3) on here.
    """
    pid = int(line[: line.index(" ")])
    rest = line[line.rindex(")") + 2 :].split()
    ticks = sum(int(rest[number - 3]) for number in (14, 15, 16, 17))
    return Stat(pid, int(rest[1]), ticks / TICKS_PER_SECOND, int(rest[24 - 3]) * PAGE_BYTES)


def read_all(proc: Path = PROC) -> dict[int, Stat]:
    """Every process that can be read, by its pid."""
    found = {}
    for entry in os.listdir(proc):  # noqa: PTH208  # read ten times a second: iterdir() builds a Path for each entry
        if entry.isdecimal():
            try:
                stat = parse_stat((proc / entry / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[stat.pid] = stat
    return found


def tree(roots: Iterable[int], processes: dict[int, Stat], *, without: Collection[int] = ()) -> list[Stat]:
    """The living processes under `roots`, the roots included, not descending into `without`."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in processes.values():
        children[stat.parent].append(stat.pid)
    found: list[Stat] = []
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in without:
            found.append(processes[pid])
            waiting.extend(children[pid])
    return found


@dataclass(frozen=True)
class Usage:
    """CPU seconds since a process's start, of the server and of its database, and the server's resident bytes."""

    server: float = 0.0
    database: float = 0.0
    resident_bytes: int = 0
    largest_bytes: int = 0
    """Resident in the largest of the server's processes."""

    @property
    def total(self) -> float:
        return self.server + self.database

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            self.server - earlier.server,
            self.database - earlier.database,
            self.resident_bytes,
            self.largest_bytes,
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.server + other.server,
            self.database + other.database,
            max(self.resident_bytes, other.resident_bytes),
            max(self.largest_bytes, other.largest_bytes),
        )


@dataclass(frozen=True)
class Watched:
    """The processes of one homeserver: its own root pids, and those of its database, wherever that hangs in the tree."""

    server: tuple[int, ...] = ()
    database: tuple[int, ...] = ()

    def usage(self) -> Usage:
        """What both trees have used up to now; zero for what is not watched."""
        processes = read_all()
        server = tree(self.server, processes, without=self.database)
        database = tree(self.database, processes)
        return Usage(
            sum(stat.cpu_seconds for stat in server),
            sum(stat.cpu_seconds for stat in database),
            sum(stat.resident_bytes for stat in server),
            max((stat.resident_bytes for stat in server), default=0),
        )
