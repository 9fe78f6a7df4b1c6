"""A limit on the people of a month (CHECKLIST NOTICE-02, API-11): who is one too many is not let in, all others are told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.conftest import StartServer
from tests.integration.notices.test_notices import invited
from tests.integration.reports.test_reports import admin_of
from tests.support.server import Server
from tests.support.user import User

FULL = (403, "M_RESOURCE_LIMIT_EXCEEDED")
LONG_AGO = """
UPDATE devices SET last_seen_ms = NULL, created_ms = 0
WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = %(user)s)
"""


async def serving(start_server: StartServer, people: int) -> Server:
    return await start_server(
        limits={"monthly_active_users": people},
        server_notices={"enabled": True},
        server={"admin_contact": "help@example.com"},
    )


async def away_for_a_month(server: Server, user: User) -> None:
    """They were not seen for longer."""
    assert server.app is not None
    await server.app.features.accounts.last_seen.flush()
    async with server.app.core.db.transaction() as tx:
        await tx.execute(LONG_AGO, user=user.user_id)


async def tell(server: Server) -> None:
    """What runs every minute."""
    assert server.app is not None
    (notices,) = (m for m in server.app.features.manifests if m.name == "notices")
    (periodic,) = notices.periodic
    await periodic.call()


async def log_in(server: Server, user: User, **options: Any) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    body = {"type": "m.login.password", "identifier": identifier, "password": user.password}
    return dict(await server.client.post("/login", json=body, **options))


async def until_there_is_room(server: Server) -> None:
    """For some seconds the server goes by its last count."""
    deadline = time.monotonic() + 60
    body = {"username": "anybody", "password": "x" * 12}
    while (await server.client.exchange("POST", "/register", json=body, expect=None)).status == 403:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_who_is_one_too_many_is_not_let_in(start_server: StartServer) -> None:
    server = await serving(start_server, 2)
    admin = await admin_of(server)
    alice = await server.register("alice")
    refused = await server.client.post(
        "/register", json={"username": "bob", "password": "x" * 12}, expect=FULL
    )
    assert refused["limit_type"] == "monthly_active_user"
    assert refused["admin_contact"] == "mailto:help@example.com"
    await log_in(server, alice)
    await away_for_a_month(server, alice)
    await until_there_is_room(server)
    bob = await server.register("bob")
    await log_in(server, alice, expect=FULL)
    await away_for_a_month(server, admin)
    await log_in(server, admin)
    await away_for_a_month(server, bob)
    await until_there_is_room(server)
    await log_in(server, alice)


async def test_notice_02_people_are_told_while_it_lasts(start_server: StartServer) -> None:
    server = await serving(start_server, 2)
    admin = await admin_of(server)
    await tell(server)
    alice = await server.register("alice")
    assert await invited(alice) == []
    for _ in range(2):
        await tell(server)
    (room,) = await invited(alice)
    await alice.join(room)
    (notice,) = (
        event
        for event in (await alice.messages(room, limit=50))["chunk"]
        if event["type"] == "m.room.message"
    )
    content = notice["content"]
    assert content.pop("body")
    assert content == {
        "msgtype": "m.server_notice",
        "server_notice_type": "m.server_notice.usage_limit_reached",
        "limit_type": "monthly_active_user",
        "admin_contact": "mailto:help@example.com",
    }
    pins = "/rooms/{}/state/m.room.pinned_events"
    assert await alice.get(pins, room) == {"pinned": [notice["event_id"]]}
    assert len(await invited(admin)) == 1

    # What administrators have pinned stays.
    assert server.app is not None
    put = {"user_id": alice.user_id, "type": "m.room.pinned_events", "state_key": ""}
    both = {"pinned": ["$theirs", notice["event_id"]]}
    await admin.post("/_synapse/admin/v1/send_server_notice", json={**put, "content": both})
    await away_for_a_month(server, admin)
    await tell(server)
    assert await alice.get(pins, room) == {"pinned": ["$theirs"]}
    await tell(server)
