"""What the configuration says of the database reaches every connection."""

import contextlib

import psycopg
import pytest

from homeserver.storage.connection import Timeouts
from homeserver.storage.database import Database
from tests.conftest import StartServer


async def test_the_configured_timeouts_hold(start_server: StartServer) -> None:
    server = await start_server(database={"statement_timeout": 7, "lock_timeout": 2.5})
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        assert await tx.value("SHOW statement_timeout") == "7s"
        assert await tx.value("SHOW lock_timeout") == "3s"


@pytest.mark.parametrize("lock", [1, 2.5, 10, 60])
async def test_who_hangs_holds_a_lock_for_less_time_than_others_wait_for_it(
    start_server: StartServer, lock: float
) -> None:
    server = await start_server(database={"lock_timeout": lock})
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        idle = await tx.value(
            "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
        )
        waiting = await tx.value("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
    assert 0 < idle <= max(1_000, waiting / 2)


async def test_a_transaction_that_hangs_holding_the_head_of_the_log_costs_nobody_a_refusal(
    start_server: StartServer,
) -> None:
    """As one does of another process that is stopped in the middle of a batch."""
    server = await start_server(database={"lock_timeout": 4})
    alice = await server.register("alice")
    room = await alice.create_room()
    async with Database(server.dsn, size=1, timeouts=Timeouts(lock=4)) as other:
        with contextlib.suppress(psycopg.OperationalError):
            async with other.transaction() as tx:
                await tx.execute("SELECT * FROM log_head FOR UPDATE")
                await alice.send(room, "beside it")
