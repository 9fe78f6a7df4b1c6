"""Rate limits of several hosts on one database (CHECKLIST API-08): together they let in what one would."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.support.postgres import Postgres
from tests.support.server import Server, run

SHARED = {"database": {"shared": True}, "rate_limits": {"enabled": True}}


async def until(server: Server, hosts: float) -> None:
    """As many hosts share; what is counted every ten seconds is counted now."""
    assert server.app is not None
    deadline = time.monotonic() + 60
    while server.app.limiter.hosts != hosts:
        assert time.monotonic() < deadline, server.app.limiter.hosts
        (feature,) = (each for each in server.app.features.manifests if each.name == "hosts")
        await feature.periodic[0].call()
        await asyncio.sleep(0.05)


async def test_hosts_share_the_rates(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path: Path
) -> None:
    name = f"shared_rates_{worker}"
    dsn = postgres.create(name, template=migrated_template)
    key = tmp_path / "signing.key"
    try:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        same = {**SHARED, "server": {"signing_key_path": key}}
        async with run(dsn, tmp_path / "one", **same) as one:
            await until(one, 1.0)
            async with run(dsn, tmp_path / "two", **same) as two:
                await until(two, 2.0)
                await until(one, 2.0)
            await until(one, 1.0)
            # One that was killed says nothing: it counts until its time is over.
            assert one.app is not None
            for seconds, hosts in ((5, 2.0), (60, 1.0)):
                async with one.app.core.db.transaction() as tx:
                    await tx.execute(
                        """
                        INSERT INTO serving_processes VALUES ('killed', 1, now() - %(seconds)s * interval '1 second')
                        ON CONFLICT (process) DO UPDATE SET seen_at = excluded.seen_at
                        """,
                        seconds=seconds,
                    )
                await until(one, hosts)
    finally:
        postgres.drop(name)


async def test_a_server_alone_counts_nobody(server: Server) -> None:
    assert server.app is not None
    (feature,) = (each for each in server.app.features.manifests if each.name == "hosts")
    assert not feature.periodic
    assert server.app.limiter.hosts == 1.0
