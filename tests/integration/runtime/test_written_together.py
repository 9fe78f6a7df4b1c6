"""Whoever waits until what was counted is written finds it in the database, also where a periodic run was writing already.

Without that, a server that stops while its periodic work writes would lose figures, or end before they are committed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest

from federation.partners import store
from federation.partners.activity import Activity
from homeserver.matrix.ids import DeviceId, ServerName
from homeserver.sessions.last_seen import Seen
from tests.support.federation import Federation
from tests.support.server import Server
from tests.support.waiting import until

OTHER = ServerName("other.test")


class Counting(NamedTuple):
    """What is counted in memory and written now and then."""

    count: Callable[[], object]
    write: Callable[[], Awaitable[object]]
    written: LiteralString
    """A query that finds what was counted."""


async def _activity(server: Server) -> Counting:
    assert server.app is not None
    activity = server.app.features.federation.agreements._activity
    return Counting(
        lambda: activity.note(OTHER, "requests"),
        activity.write,
        "SELECT 1 FROM federation_activity WHERE server_name = 'other.test'",
    )


async def _outcomes(server: Server) -> Counting:
    assert server.app is not None
    outcomes = server.app.features.federation_outbound.service.outcomes
    return Counting(
        lambda: outcomes.succeeded(OTHER),
        outcomes.write,
        "SELECT 1 FROM federation_destinations WHERE destination = 'other.test'",
    )


async def _pauses(server: Server) -> Counting:
    assert server.app is not None
    feature = server.app.features.federation
    return Counting(
        lambda: feature.backoff.failed(OTHER, "no answer"),
        feature._shared_backoff.exchange,
        "SELECT 1 FROM federation_pauses WHERE server_name = 'other.test'",
    )


async def _last_used(server: Server) -> Counting:
    assert server.app is not None
    used = server.app.features.media.used
    alice = await server.register("alice")
    await alice.post("/_matrix/media/v3/upload", data=b"x")
    async with server.app.core.db.transaction() as tx:
        nid = await tx.value("UPDATE media SET last_used_ms = 0 RETURNING media_nid")
    return Counting(lambda: used.note(nid), used.flush, "SELECT 1 FROM media WHERE last_used_ms > 0")


async def _last_seen(server: Server) -> Counting:
    assert server.app is not None
    last_seen = server.app.features.accounts.last_seen
    alice = await server.register("alice")
    async with server.app.core.db.read() as tx:
        nid = await tx.value("SELECT user_nid FROM devices WHERE device_id = %(d)s", d=alice.device_id)
    sighting = Seen(1 << 45, "192.0.2.1", "Tester/1.0")
    return Counting(
        lambda: last_seen.note(nid, DeviceId(alice.device_id), sighting),
        last_seen.flush,
        "SELECT 1 FROM devices WHERE last_seen_ip = '192.0.2.1'",
    )


@contextlib.asynccontextmanager
async def locked(dsn: str, table: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Nobody writes into a table until the block ends. Gives what says whether somebody waits for that."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())

        async def waits() -> object:
            asked = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
            return await (await connection.execute(asked, [table])).fetchone()

        yield waits


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("federation_activity", _activity),
        ("federation_destinations", _outcomes),
        ("federation_pauses", _pauses),
        ("media", _last_used),
        ("devices", _last_seen),
    ],
)
async def test_awaiting_a_write_means_that_it_is_written(
    federation: Federation, table: str, kind: Callable[[Server], Awaitable[Counting]]
) -> None:
    server = await federation.start()
    assert server.app is not None
    counting = await kind(server)
    async with locked(server.dsn, table) as waits:
        counting.count()
        first = asyncio.create_task(counting.write())  # type: ignore[arg-type]
        await until(waits)
        second = asyncio.create_task(counting.write())  # type: ignore[arg-type]
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done, "nothing is written yet"
    await second
    async with server.app.core.db.read() as tx:
        assert await tx.all(counting.written)
    await first


async def test_what_could_not_be_written_is_added_to_what_was_counted_meanwhile(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await federation.start()
    assert server.app is not None
    db = server.app.core.db
    activity = Activity(db, server.app.clock)
    activity.note(OTHER, "requests", amount=5, peak=4)

    async def fail(*_: object) -> None:
        activity.note(OTHER, "requests", amount=2, peak=3)
        raise psycopg.OperationalError

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_activity", fail)
        with pytest.raises(psycopg.OperationalError):
            await activity.write()
    await activity.write()
    async with db.read() as tx:
        rows = await store.list_activity(tx, 0, ("", "", ""), 10)
    assert [(row.server_name, row.kind, row.times, row.peak) for row in rows] == [(OTHER, "requests", 7, 4)]
