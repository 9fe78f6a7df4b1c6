"""A new database cluster: made aside, and moved to its place when it is whole.

A start that is killed meanwhile leaves a folder of its own that nobody else writes to, and programs that may be at work
in it for a moment longer. The next start makes another folder, and removes what was left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeserver.storage import system_user
from homeserver.storage.errors import StorageError
from homeserver.storage.system_user import SystemUser

_ASIDE = "postgres.new."
_LIMIT = 120.0  # seconds


def environment() -> dict[str, str]:
    """What PostgreSQL inherits: nothing that could change its behaviour (PGDATA, LC_ALL, a preloaded library)."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def processes_in(folder: Path) -> Iterator[int]:
    """Process numbers of PostgreSQL programs whose working directory is the folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = (process / "cwd").readlink() == folder
            if ours and (process / "comm").read_text() == "postgres\n":
                yield int(process.name)


def end_processes_in(folder: Path) -> None:
    """Kill them; gives up after two seconds, when PostgreSQL itself will say what it waits for."""
    deadline = time.monotonic() + 2.0  # noqa: TID251  # waits for processes, not for a clock
    while orphans := list(processes_in(folder)):
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:  # noqa: TID251  # likewise
            return
        time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Making:
    """What a cluster is made with. `meanwhile` is called once, while the first program is at work."""

    programs: Path
    user: SystemUser | None
    role: str
    database: str
    meanwhile: Callable[[], object]

    def make(self, directory: Path, data: Path) -> None:
        """Make `data`, a folder in `directory`. Raises `StorageError` with what the programs said, or `OSError`."""
        remove_leftovers(directory)
        fresh = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=directory))
        try:
            self._fill(fresh, directory)
            if data.exists():
                shutil.rmtree(data)  # without PG_VERSION it holds no cluster
            fresh.rename(data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _fill(self, fresh: Path, directory: Path) -> None:
        if self.user is not None:
            os.chown(fresh, self.user.uid, self.user.gid)
        self._run(
            [
                str(self.programs / "initdb"),
                *("--pgdata", str(fresh), "--username", self.role, "--auth", "trust", "--encoding", "UTF8"),
                *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *("--no-instructions", "--set", "dynamic_shared_memory_type=posix"),
            ],
            f"make its database cluster in {directory}",
        )
        single = [str(self.programs / "postgres"), "--single", "-D", str(fresh), "-F", "postgres"]
        order = f"CREATE DATABASE {self.database} TEMPLATE template0;\n"
        self._run(single, f"make its database in {directory}", order)

    def _run(self, command: Sequence[str], purpose: str, said: str = "") -> None:
        # These programs ask for the name of their user; the server does not.
        setup = system_user.child_setup(self.user, at_death=signal.SIGKILL, named=system_user.name_needed())
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(),
                preexec_fn=setup,  # noqa: PLW1509  # one thread so early
            )
        except subprocess.SubprocessError:  # whatever the setup raised
            raise StorageError(_nameless(purpose)) from None
        try:
            if not said:
                self.meanwhile()
            words, _ = process.communicate(said.encode(), timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            raise StorageError(f"PostgreSQL could not {purpose} within {_LIMIT:.0f} seconds") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        if process.returncode != 0:
            reason = words.decode(errors="replace").strip()[-2000:]
            raise StorageError(f"PostgreSQL could not {purpose}: {reason or f'status {process.returncode}'}")


def _nameless(purpose: str) -> str:
    return (
        f"PostgreSQL could not {purpose}: the user {os.geteuid()} has no name (no entry in /etc/passwd), which its first "
        "start needs, and this system lends none. Give it one (useradd, or a passwd file for the container), let "
        "a user with a name make the first start, or name a PostgreSQL of your own in database.url"
    )


def remove_leftovers(directory: Path) -> None:
    """Remove what interrupted first starts left in the folder, and end what is at work there."""
    for left in (*directory.glob(f"{_ASIDE}*"), directory / _ASIDE.rstrip(".")):
        end_processes_in(left)
        shutil.rmtree(left, ignore_errors=True)
