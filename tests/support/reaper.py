"""What a test leaves running, ended: the server's process group and its embedded PostgreSQL.

Run as a program (`python reaper.py DATA`), it is the safety net of `tests.support.process`: it holds the reading end
of a pipe whose writing end only the test run has. When the run ends in whatever way, `kill -9` included, the pipe
closes, and what still runs for DATA is stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil


def embedded_databases(data: Path) -> list[psutil.Process]:
    """The running PostgreSQL masters whose cluster lies in the server's data directory, or one or two levels below."""
    found = []
    for pattern in ("postmaster.pid", "*/postmaster.pid", "*/*/postmaster.pid"):
        for file in data.glob(pattern):
            with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
                process = psutil.Process(int(file.read_text().splitlines()[0]))
                # the file outlives its process, and the number is given again
                if "postgres" in process.name():
                    found.append(process)
    return found


def stop_databases(data: Path, timeout: float = 10.0) -> None:
    """Shuts the embedded PostgreSQL down at once but in order (SIGINT: "fast"), by force if it takes too long."""
    for process in embedded_databases(data):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout)
            except psutil.TimeoutExpired:
                kill_tree(process)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL to a process and everything under it."""
    for each in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def kill_group(leader: int) -> None:
    """SIGKILL to every process of a group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class SafetyNet:
    """Ends a process group, and the databases below a folder, should this process end before it has."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """This group runs now; 0: none does."""
        if self._process is None:
            program = [sys.executable, str(Path(__file__)), str(self._data)]
            self._process = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % group)
        self._process.stdin.flush()

    def close(self) -> None:
        """What is watched is ended by now. Idempotent."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process = None


def main() -> None:
    """Waits for the end of the test run, told by the end of its standard input, then stops what is left."""
    data, group = Path(sys.argv[1]), 0
    for line in sys.stdin:  # each line names the process group that serves now; 0 when none does
        group = int(line)
    if group:
        kill_group(group)
    stop_databases(data)


if __name__ == "__main__":
    main()
