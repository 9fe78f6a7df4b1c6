"""What the configuration says of the database reaches every connection."""

from tests.conftest import StartServer


async def test_the_configured_timeouts_hold(start_server: StartServer) -> None:
    server = await start_server(database={"statement_timeout": 7, "lock_timeout": 2.5})
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        assert await tx.value("SHOW statement_timeout") == "7s"
        assert await tx.value("SHOW lock_timeout") == "3s"
