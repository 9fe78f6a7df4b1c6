"""Going through everything again, what no reader is told of, and what administrators see. CHECKLIST SRCH-01."""

from pathlib import Path

import psycopg
import yaml

from homeserver.search import commands
from homeserver.search.rebuild import Rebuilding
from tests.integration.search.test_readable import edit
from tests.integration.search.test_search import pair
from tests.support.commands import atrium
from tests.support.search import found, indexed, search
from tests.support.server import Server


def rebuilding(server: Server) -> Rebuilding:
    assert server.app is not None
    return server.app.features.search.rebuilding


async def rows(dsn: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (
            await connection.execute(
                "SELECT event_nid, room_nid, sender_nid, edit_nid, kind, words FROM search_entries ORDER BY event_nid"
            )
        ).fetchall()


async def test_an_index_that_was_lost_is_made_again(start_server) -> None:  # type: ignore[no-untyped-def]
    """SRCH-01: the same as the log makes, whatever was in it."""
    server: Server = await start_server()
    room, alice, bob = await pair(server, name="Aardvark", topic="about aardvarks")
    ids = [await alice.send(room, f"aardvark {n}") for n in range(20)]
    await edit(alice, room, ids[3], "aardvark changed")
    await alice.redact(room, ids[4])
    await indexed(server)
    before = await rows(server.dsn)
    assert len(before) == 21
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        await connection.execute("DELETE FROM search_entries WHERE event_nid % 2 = 0")
        await connection.execute("UPDATE search_entries SET words = '''wrong'''")
        await connection.execute(
            "INSERT INTO search_entries SELECT event_nid, room_nid, sender_nid, NULL, 1, '''wrong''' FROM events"
            " WHERE redacted_by IS NOT NULL"
        )
    assert server.app is not None
    await commands.rebuild(server.app.core.db)
    assert (await commands.overview(server.app.core.db)).progress < 1
    await rebuilding(server).once()
    found_ = await commands.overview(server.app.core.db)
    assert found_.progress == 1
    assert found_.current
    assert await rows(server.dsn) == before
    assert len(found(await search(bob, "aardvark", filter={"limit": 50}))) == 21


async def test_a_rebuild_goes_on_where_it_was(start_server) -> None:  # type: ignore[no-untyped-def]
    """SRCH-01: in steps that each say how far they came; searches find what they found before."""
    server: Server = await start_server()
    assert server.app is not None
    room, alice, _ = await pair(server)
    large = "gnu " + "x" * 50_000
    for _ in range(8):
        await alice.send(room, large)
    await indexed(server)
    await server.app.periodic.stop()  # the server would do some of the steps
    before = await rows(server.dsn)
    await commands.rebuild(server.app.core.db)
    steps = 1
    while await rebuilding(server)._step():
        steps += 1
        assert (await search(alice, "gnu"))["count"] == 8
    assert steps >= 4, "pieces are bounded in bytes"
    assert not await rebuilding(server)._step()
    assert await rows(server.dsn) == before


async def test_older_history_is_found(start_server) -> None:  # type: ignore[no-untyped-def]
    """SRCH-01: events that come with negative numbers, and such as are shown later than they came."""
    server: Server = await start_server()
    room, alice, _ = await pair(server)
    one, two = await alice.send(room, "bongo one"), await alice.send(room, "bongo two")
    await indexed(server)
    assert server.app is not None
    server.app.features.search.lately.longest = 0.0  # what is taken away here will never be in the index
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        for event_id, nid in ((one, -5), (two, -6)):
            await connection.execute(
                f"CREATE TEMP TABLE moved AS SELECT * FROM events WHERE event_id = '{event_id}'".encode()
            )
            await connection.execute("DELETE FROM events WHERE event_id = %s", [event_id])
            await connection.execute("UPDATE moved SET event_nid = %s", [nid])
            await connection.execute("INSERT INTO events SELECT * FROM moved")
            await connection.execute("DROP TABLE moved")
        await connection.execute("UPDATE events SET flags = 4 WHERE event_id = %s", [two])
        await connection.execute("DELETE FROM search_late WHERE event_nid = -6")
    server.app.core.events.clear()
    assert found(await search(alice, "bongo")) == []
    await rebuilding(server).once()
    assert found(await search(alice, "bongo")) == [one]
    async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
        await connection.execute("UPDATE events SET flags = 0 WHERE event_id = %s", [two])
    server.app.core.events.clear()
    await rebuilding(server).once()
    assert found(await search(alice, "bongo", order_by="recent")) == [one, two]


async def test_what_administrators_see(database: str, tmp_path: Path) -> None:
    """`atrium search`, beside a server or without one."""
    config = tmp_path / "config.yaml"
    settings = {"server": {"name": "localhost", "data_dir": str(tmp_path)}, "database": {"url": database}}
    config.write_text(yaml.safe_dump(settings))

    assert "as soon as the server runs" in await atrium("search", "status", config=config)
    assert "atrium search status" in await atrium("search", "rebuild", config=config)
    assert "0.0%" in await atrium("search", "status", config=config)
