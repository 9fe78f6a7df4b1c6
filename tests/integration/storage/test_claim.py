"""One server that is alone on a database, or several that know of each other."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from homeserver.runtime.clock import SystemClock
from homeserver.storage.claim import HOST, PROCESS, Claim, DatabaseTaken
from tests.support.waiting import until


def claim(dsn: str, *, alone: bool, patience: float = 0.1) -> Claim:
    return Claim(dsn, SystemClock(), alone=alone, patience=patience)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
async def test_whoever_wants_to_be_alone_is_refused_beside_another(
    database: str, *, first: bool, second: bool
) -> None:
    one, two = claim(database, alone=first), claim(database, alone=second)
    await one.take()
    with pytest.raises(DatabaseTaken, match="shared"):
        await two.take()
    await one.release()
    await two.take()
    await two.release()


async def test_those_who_share_stand_side_by_side(database: str) -> None:
    claims = [claim(database, alone=False) for _ in range(3)]
    for each in claims:
        await each.take()
    for each in claims:
        await each.release()


async def test_a_server_waits_for_the_one_before_it_to_end(database: str) -> None:
    old, new = claim(database, alone=True), claim(database, alone=True, patience=30)
    await old.take()
    waiting = asyncio.create_task(new.take())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await old.release()
    await waiting
    await new.release()


async def test_a_lost_connection_gives_the_claim_away_and_it_is_taken_back(database: str) -> None:
    async def hold() -> None:
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                await one.hold()
            await asyncio.sleep(0.05)

    one, two = claim(database, alone=True), claim(database, alone=True)
    await one.take()
    holding = asyncio.create_task(hold())
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
        for _ in range(3):
            ended = await other.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'atrium-claim'"
                " AND datname = current_database()"
            )
            before = [pid for pid, _ in await ended.fetchall()]

            async def is_held_again(before: list[int] = before) -> bool:
                holders = await other.execute(
                    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                    " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
                )
                return any(pid not in before for (pid,) in await holders.fetchall())

            await until(is_held_again)
            with pytest.raises(DatabaseTaken):
                await two.take()
    assert not holding.done()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    await one.release()


async def test_the_processes_of_one_host_keep_other_hosts_away(database: str) -> None:
    """Each holds the first lock shared; who leads holds the second exclusively, which processes of several hosts share."""
    processes = [claim(database, alone=False) for _ in range(2)]
    for each in processes:
        await each.take()
    leader, other = (
        Claim(database, SystemClock(), alone=True, locks=(HOST,), patience=0.1) for _ in range(2)
    )
    shared = Claim(database, SystemClock(), alone=False, locks=(PROCESS, HOST), patience=0.1)
    await leader.take()
    for refused in (other, shared):
        with pytest.raises(DatabaseTaken):
            await refused.take()
    await leader.release()
    await shared.take()
    with pytest.raises(DatabaseTaken):
        await leader.take()
    for each in (*processes, shared):
        await each.release()
