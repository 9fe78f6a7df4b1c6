"""Administrators give single users another rate, or none."""

from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.user import User

PATH = "/_synapse/admin/v1/users/{}/override_ratelimit"


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server(rate_limits={"enabled": True, "message": {"per_second": 0.01, "burst": 3}})


async def admin_of(server: Server) -> User:
    admin = await server.register("admin")
    assert server.app is not None
    accounts = server.app.features.accounts.accounts
    account = await accounts.find(admin.user_id)
    assert account is not None
    await accounts.set_flags(account.user_nid, is_admin=True)
    return admin


async def sent(user: User, room: str) -> int:
    """Messages until one is refused; twenty at most."""
    for number in range(20):
        answer = await user.exchange(
            "PUT",
            "/rooms/{}/send/m.room.message/{}",
            room,
            f"{number}",
            json={"body": "x", "msgtype": "m.text"},
            expect=None,
        )
        if answer.status != 200:
            assert (answer.status, answer.json["errcode"]) == (429, "M_LIMIT_EXCEEDED")
            assert int(answer.headers["retry-after"]) >= 1
            return number
    return 20


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ({"messages_per_second": 1, "burst_count": 7}, range(7, 20)),
        ({"messages_per_second": 0, "burst_count": 0}, range(20, 21)),
    ],
)
async def test_one_user_has_another_rate_until_it_is_taken_back(
    server: Server, override: dict[str, Any], allowed: range
) -> None:
    admin, bot, other = await admin_of(server), await server.register("bot"), await server.register("other")
    rooms = [await each.create_room() for each in (bot, other)]
    assert await admin.get(PATH, bot.user_id) == {}
    assert await admin.post(PATH, bot.user_id, json=override) == override
    assert await admin.get(PATH, bot.user_id) == override
    assert await sent(bot, rooms[0]) in allowed
    assert await sent(other, rooms[1]) == 3
    assert await admin.delete(PATH, bot.user_id) == {}
    assert await admin.get(PATH, bot.user_id) == {}


async def test_a_taken_back_exemption_ends(server: Server) -> None:
    admin, bot = await admin_of(server), await server.register("bot")
    room = await bot.create_room()
    await admin.post(PATH, bot.user_id, json={})
    await admin.delete(PATH, bot.user_id)
    assert await sent(bot, room) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"messages_per_second": -1},
        {"messages_per_second": 1e9},
        {"burst_count": -1},
        {"burst_count": 5},
        {"messages_per_second": 1, "burst_count": 10**12},
    ],
)
async def test_what_is_no_rate_is_refused(server: Server, body: dict[str, Any]) -> None:
    admin, bot = await admin_of(server), await server.register("bot")
    await admin.post(PATH, bot.user_id, json=body, expect=(400, "M_INVALID_PARAM"))
    assert await admin.get(PATH, bot.user_id) == {}


async def test_only_administrators_do_this(server: Server) -> None:
    bot = await server.register("bot")
    for method in ("GET", "POST", "DELETE"):
        answer = await bot.exchange(
            method, PATH, bot.user_id, json={} if method == "POST" else None, expect=(403, "M_FORBIDDEN")
        )
        assert answer.status == 403
    admin = await admin_of(server)
    await admin.post(PATH, "@nobody:localhost", json={}, expect=(404, "M_NOT_FOUND"))
    await admin.post(PATH, "@bot:elsewhere.example", json={}, expect=(400, "M_INVALID_PARAM"))
