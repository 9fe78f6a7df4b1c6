"""A gateway that keeps the server waiting delays nobody but those who have chosen it (PUSH-15)."""

import asyncio
from typing import Any

import pytest

from homeserver.push.pushers import gateway as gateways
from homeserver.wiring.push import AT_ONCE, OF_A_STRUGGLING_HOST
from tests.support.push_gateway import FakeGateway
from tests.support.server import Server
from tests.support.unread import meeting

PEOPLE, EACH = 21, 49
PRIVATE = {"allow_private": {"push": ["127.0.0.0/8"]}}


async def give(server: Server, url: str) -> None:
    """So many pushers for everybody, at URLs of their own of one gateway; known when each sets another."""
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO pushers (user_nid, app_id, pushkey, kind, device_id, enabled, set_ms, url, details)
            SELECT user_nid, 'org.example.app', user_id || number, 'http', NULL, true, 1, %(url)s || '?n=' || number,
                   '{"app_display_name":"App","device_display_name":"Phone","lang":"en","data":{}}'
            FROM users, generate_series(1, %(each)s) AS number WHERE user_id LIKE '@phone%%'
            """,
            url=url,
            each=EACH,
        )


async def everybody(server: Server, hostile: FakeGateway, honest: FakeGateway) -> tuple[str, Any]:
    """A room whose people have a phone at the honest gateway each, and very many at the other; and who speaks there."""
    room, (alice, *people) = await meeting(server, "alice", *(f"phone{n}" for n in range(PEOPLE)))
    await give(server, hostile.url)
    for user in people:
        await user.post("/pushers/set", json=honest.pusher(user.user_id))
    return room, alice


async def test_a_gateway_that_does_not_answer_has_not_all_places(
    start_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand pushers wait there: those at another host are told meanwhile, also of what comes then."""
    monkeypatch.setattr(gateways, "TIMEOUT", 100.0)
    server = await start_server(outbound=PRIVATE)
    async with FakeGateway(slow=1_000.0) as hostile, FakeGateway(host="127.0.0.2") as honest:
        room, alice = await everybody(server, hostile, honest)
        for _ in range(3):
            event_id = await alice.send(room, "hello")
            await honest.hears(
                lambda g, event_id=event_id: (
                    sum(each.get("event_id") == event_id for each in g.taken) == PEOPLE
                ),
                within=60,
            )
        assert hostile.taken == [], "nothing of it was waited for"
        assert 0 < hostile.most_at_once <= OF_A_STRUGGLING_HOST < AT_ONCE


@pytest.mark.load
@pytest.mark.timeout(120)
async def test_how_long_others_wait_beside_one_that_answers_just_in_time(start_server: Any) -> None:
    """A message every second for 20 seconds; each request to the hostile gateway takes 4.9 s."""
    server = await start_server(outbound=PRIVATE)
    async with FakeGateway(slow=4.9) as hostile, FakeGateway(host="127.0.0.2") as honest:
        room, alice = await everybody(server, hostile, honest)
        loop, waited = asyncio.get_running_loop(), []
        for _ in range(20):
            began = loop.time()
            event_id = await alice.send(room, "hello")
            await honest.hears(
                lambda g, event_id=event_id: (
                    sum(each.get("event_id") == event_id for each in g.taken) == PEOPLE
                ),
                within=60,
            )
            waited.append(loop.time() - began)
            await asyncio.sleep(max(0.0, 1.0 - waited[-1]))
        print(f"until all {PEOPLE} were told: worst {max(waited):.2f} s, median {sorted(waited)[10]:.2f} s")
        assert max(waited) < 4.9
