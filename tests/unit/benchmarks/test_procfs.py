"""CPU accounting of process trees: nothing that ran is lost, whoever has ended."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.procfs import Stat, Usage, Watched, parse_stat, read_all, tree

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}])
print("reaped", flush=True)
sys.stdin.read()
"""


def stat_line(pid: int, name: str, parent: int, ticks: tuple[int, int, int, int]) -> str:
    fields = [
        "S",
        str(parent),
        *("0" for _ in range(9)),
        *map(str, ticks),
        *("0" for _ in range(6)),
        "100",
        "0",
    ]
    return f"{pid} ({name}) {' '.join(fields)}"


def test_a_stat_line_is_read_whatever_the_command_is_called() -> None:
    stat = parse_stat(stat_line(7, "a (b) c) d", 3, (100, 50, 25, 25)))
    assert (stat.pid, stat.parent, stat.cpu_seconds) == (7, 3, 2.0)
    assert stat.resident_bytes == 100 * 4096


def test_a_tree_stops_at_the_database_that_hangs_below_the_server() -> None:
    parents = {10: 1, 11: 10, 12: 11, 20: 10, 21: 20, 30: 1}
    processes = {pid: Stat(pid, parent, 1.0, 0) for pid, parent in parents.items()}
    assert {stat.pid for stat in tree([10], processes, without=[20])} == {10, 11, 12}
    assert {stat.pid for stat in tree([20], processes)} == {20, 21}
    assert tree([99], processes) == []


def test_this_process_is_among_all(tmp_path: Path) -> None:
    assert any(stat.resident_bytes > 1_000_000 for stat in read_all().values())


def test_the_cpu_of_a_child_that_has_ended_still_counts() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reaped\n"
        usage = Watched(server=(process.pid,)).usage()
        assert usage.server >= 0.25
        assert usage.database == 0
        assert usage.resident_bytes > 1_000_000
    finally:
        process.communicate()


def test_the_cpu_of_a_living_child_counts_for_whom_it_belongs_to() -> None:
    program = [
        sys.executable,
        "-c",
        f"import subprocess,sys; subprocess.run([sys.executable, '-c', {BURN!r}])",
    ]
    parent = subprocess.Popen(program)
    try:
        deadline = time.monotonic() + 60
        children: list[int] = []
        while not children and time.monotonic() < deadline:
            children = [stat.pid for stat in read_all().values() if stat.parent == parent.pid]
        watched = Watched(server=(parent.pid,), database=(children[0],))
        before = watched.usage()
        while (spent := watched.usage() - before).database < 0.1 and time.monotonic() < deadline:
            pass
        assert spent.database >= 0.1
        assert spent.server < 0.05
    finally:
        parent.wait()


def test_usages_add_up_and_keep_the_largest_memory() -> None:
    total = Usage(1.0, 2.0, 500) + Usage(0.5, 0.25, 300)
    assert (total.server, total.database, total.total, total.resident_bytes) == (1.5, 2.25, 3.75, 500)
