"""What a message costs where several hosts serve from one database: `python -m benchmarks.core.hosts --hosts 3`.

Hosts of one process each on one machine, on a PostgreSQL of their own as shipped (fsync on). Messages are sent to the first
alone, then to all by turns: CPU of who writes and of who follows, of PostgreSQL, commits and bytes of the write-ahead log.
The figures of the model in docs/scaling.md come from here.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psycopg

from benchmarks.core.search import Client
from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from homeserver.storage import migrate
from tests.support.process import ConfiguredProcess

ROOMS, SENDERS = 50, 32


@dataclass(frozen=True)
class Counters:
    """Of the database, since it was made."""

    commits: int
    wal: int

    @classmethod
    def read(cls, dsn: str) -> Counters:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            row = connection.execute(
                "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint FROM pg_stat_database "
                "WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        return cls(*row)


async def load(clients: Sequence[Client], rooms: Sequence[str], seconds: float) -> int:
    """Messages by turns to the clients' hosts; returns how many were answered."""
    numbers, done, over = itertools.count(), 0, time.monotonic() + seconds

    async def sender() -> None:
        nonlocal done
        while time.monotonic() < over:
            number = next(numbers)
            path = f"/rooms/{rooms[number % len(rooms)]}/send/m.room.message/{time.monotonic_ns()}{number}"
            await clients[number % len(clients)].call("PUT", path, {"msgtype": "m.text", "body": "Hello all"})
            done += 1

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return done


async def measure(dsn: str, servers: Sequence[ConfiguredProcess], database: int, seconds: float) -> None:
    watched = [Watched((server.pid,), (database,)) for server in servers]
    async with aiohttp.ClientSession() as session:
        person = await Client(session, servers[0].base_url).person("sender")
        clients = [Client(session, server.base_url, person.token) for server in servers]
        made = [
            (await person.call("POST", "/createRoom", {"preset": "public_chat"}))["room_id"]
            for _ in range(ROOMS)
        ]
        for what, some in (("the first host", clients[:1]), ("all hosts by turns", clients)):
            await load(some, made, 1.0)
            before, counted = [each.usage() for each in watched], Counters.read(dsn)
            count = await load(some, made, seconds)
            after = Counters.read(dsn)
            used = [each.usage() - earlier for each, earlier in zip(watched, before, strict=True)]
            cpu = [each.server / count * 1000 for each in used]
            print(
                f"{len(servers)} hosts, messages to {what}: {count / seconds:,.0f}/s; for each "
                f"{', '.join(f'{each:.3f}' for each in cpu)} ms CPU at the hosts, "
                f"{used[0].database / count * 1000:.3f} in PostgreSQL, "
                f"{(after.wal - counted.wal) / count:,.0f} bytes of log, "
                f"{(after.commits - counted.commits) / count:.2f} commits",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="atrium-hosts-", ignore_cleanup_errors=True)
            )
        )
        postgres, dsn = stack.enter_context(own_database(folder / "database", "hosts"))
        migrate.apply(dsn)
        print(describe(dsn))
        servers = [
            stack.enter_context(
                ConfiguredProcess(
                    folder / f"host{number}",
                    dsn,
                    server={"signing_key_path": str(folder / "signing.key")},
                    database={"shared": True},
                    media={"path": str(folder / "media")},
                    rate_limits={"enabled": False},
                    log={"requests": False, "format": "json"},
                )
            )
            for number in range(asked.hosts)
        ]
        for server in servers:
            server.start()
        asyncio.run(measure(dsn, servers, postgres.pid or 0, asked.seconds))


if __name__ == "__main__":
    main()
