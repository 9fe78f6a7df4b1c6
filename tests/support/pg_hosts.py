"""PostgreSQL that several hosts reach by TCP, and a standby of it: the embedded programs, as on machines of their own.

`fsync` and synchronous commit are on, as shipped.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import psutil
import psycopg

from homeserver.storage import cluster, system_user
from homeserver.storage.embedded import DATABASE, ROLE, EmbeddedPostgres, find_programs
from tests.support import reaper

PORT = 5432
_ACCESS = "local all all trust\nlocal replication all trust\nhost all all all trust\nhost replication all all trust\n"


def loopback_addresses(count: int) -> list[str]:
    """Addresses of this machine that nobody else uses, on which every port is free."""
    first = f"127.{random.randrange(64, 250)}.{random.randrange(250)}"  # no secret
    return [f"{first}.{number}" for number in range(1, count + 1)]


class PostgresHost:
    """One of them, in `folder`, at `addresses`. Call `end` when done."""

    def __init__(self, folder: Path, addresses: list[str]) -> None:
        self.embedded = EmbeddedPostgres(folder)
        self.addresses = addresses
        self._data = folder / "postgres"

    @property
    def dsn(self) -> str:
        """By its Unix socket."""
        return self.embedded.dsn

    def tcp(self, *addresses: str) -> str:
        """The connection string that hosts are given: of one address, or of a primary and its standbys."""
        several = " target_session_attrs=read-write" if len(addresses) > 1 else ""
        return f"host={','.join(addresses)} port={PORT} user={ROLE} dbname={DATABASE}{several}"

    def start(self) -> None:
        """A new primary. In the main thread."""
        self.embedded.start()
        self.embedded.stop()
        self._configure()
        self.embedded.start()

    def follow(self, primary: PostgresHost) -> None:
        """A standby of another one, which waits for it from now on with every commit. In the main thread."""
        self._data.parent.mkdir(parents=True, exist_ok=True)
        source = primary.dsn.replace(f"dbname={DATABASE}", "application_name=standby")
        program = find_programs() / "pg_basebackup"
        command = [program, "-d", source, "-D", self._data, "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, env=cluster.environment(), capture_output=True)
        if os.geteuid() == 0 and (user := system_user.choose_user(primary._data)) is not None:
            system_user.chown_tree(self._data, user)
        self._configure()
        self.embedded._own()
        self.embedded.revive()
        self._until("SELECT pg_is_in_recovery()", self.dsn)
        with psycopg.connect(primary.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby)'")
            connection.execute("SELECT pg_reload_conf()")
        self._until("SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'quorum'", primary.dsn)

    def promote(self) -> None:
        """Be the primary from now on."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true, 20)")

    def kill9(self) -> None:
        """As if its machine had lost power, but for the network."""
        assert self.embedded.pid is not None
        reaper.kill_tree(psutil.Process(self.embedded.pid))

    def end(self) -> None:
        """Stop it, whatever has become of it."""
        self.embedded.stop()

    def _configure(self) -> None:
        access = self._data / "access.conf"
        access.write_text(_ACCESS)
        settings = self._data / "local.conf"
        where = ",".join(self.addresses)
        settings.write_text(f"listen_addresses = '{where}'\nhba_file = '{access}'\nmax_wal_senders = 5\n")
        owner = self._data.stat()
        for file in (access, settings):
            os.chown(file, owner.st_uid, owner.st_gid)

    @staticmethod
    def _until(query: str, dsn: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    row = connection.execute(query.encode()).fetchone()
                    if row is not None and row[0]:
                        return
            except psycopg.OperationalError:
                pass
            assert time.monotonic() < deadline, query
            time.sleep(0.05)
