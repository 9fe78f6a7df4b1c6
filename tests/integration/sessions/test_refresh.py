"""Refreshing access tokens and soft logout: CHECKLIST AUTH-18, AUTH-19, API-10."""

import asyncio
from typing import Any

import pytest

from homeserver.runtime.clock import FakeClock
from tests.support.identity import IdentityServer
from tests.support.user import User

LIFETIME = {"refreshable_access_token_lifetime": 300}


async def refresh(server: IdentityServer, token: str | None, expect: Any = 200) -> dict[str, Any]:
    return dict(await server.client.post("/refresh", json={"refresh_token": token}, expect=expect))


async def works(server: IdentityServer, token: str) -> bool:
    answer = await server.client.exchange("GET", "/account/whoami", token=token, expect=None)
    return answer.status == 200


async def test_nobody_gets_a_refresh_token_unasked(server: IdentityServer) -> None:
    """AUTH-18."""
    alice = await server.register("alice")
    assert alice.refresh_token is None
    reply = await server.client.post(
        "/login", json={"type": "m.login.password", "user": alice.localpart, "password": alice.password}
    )
    assert "refresh_token" not in reply
    assert "expires_in_ms" not in reply


@pytest.mark.parametrize("way", ["login", "register"])
async def test_whoever_asks_gets_one_with_an_expiry(server: IdentityServer, way: str) -> None:
    """AUTH-18."""
    body: dict[str, Any] = {"refresh_token": True, "password": "correct horse"}
    if way == "login":
        alice = await server.register("alice", "correct horse")
        body |= {"type": "m.login.password", "user": alice.localpart}
    else:
        body |= {"auth": {"type": "m.login.dummy"}}
    reply = await server.client.post(f"/{way}", json=body)
    assert reply["refresh_token"]
    assert reply["expires_in_ms"] == 300_000


async def test_the_old_refresh_token_is_good_until_the_new_access_token_is_used(
    server: IdentityServer,
) -> None:
    """AUTH-18."""
    alice = await server.register("alice", refresh_token=True)
    new = await refresh(server, alice.refresh_token)
    lost_answer = await refresh(server, alice.refresh_token)
    assert len({new["access_token"], lost_answer["access_token"], alice.token}) == 3
    assert await works(server, lost_answer["access_token"])
    refusal = await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
    assert refusal["soft_logout"] is True


async def test_the_old_refresh_token_is_good_until_the_new_refresh_token_is_used(
    server: IdentityServer,
) -> None:
    """AUTH-18."""
    alice = await server.register("alice", refresh_token=True)
    first = await refresh(server, alice.refresh_token)
    await refresh(server, alice.refresh_token)
    second = await refresh(server, first["refresh_token"])
    await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
    assert await works(server, second["access_token"])


async def test_what_else_came_from_the_same_token_ends_when_one_is_used(server: IdentityServer) -> None:
    """Whoever stole the refresh token does not keep a session beside its owner's."""
    alice = await server.register("alice", refresh_token=True)
    stolen = await refresh(server, alice.refresh_token)
    mine = await refresh(server, alice.refresh_token)
    assert await works(server, mine["access_token"])
    assert not await works(server, stolen["access_token"])
    await refresh(server, stolen["refresh_token"], (401, "M_UNKNOWN_TOKEN"))
    assert await works(server, mine["access_token"])


async def test_of_many_unused_answers_only_the_last_are_kept(server: IdentityServer) -> None:
    alice = await server.register("alice", refresh_token=True)
    answers = [await refresh(server, alice.refresh_token) for _ in range(7)]
    assert server.db is not None
    async with server.db.read() as tx:
        count = await tx.value(
            "SELECT count(*) FROM refresh_tokens WHERE device_id = %(device)s", device=alice.device_id
        )
    assert count == 5
    assert not await works(server, answers[0]["access_token"])
    assert await works(server, answers[-1]["access_token"])


async def test_a_chain_of_refreshes_leaves_a_bounded_trail(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock, auth=LIFETIME)
    alice = await server.register("alice", refresh_token=True)
    token = alice.refresh_token
    for _ in range(6):
        await clock.advance(250)
        answer = await refresh(server, token)
        token = answer["refresh_token"]
        assert await works(server, answer["access_token"])
    async with server.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM refresh_tokens") <= 2
        assert await tx.value("SELECT count(*) FROM access_tokens") <= 2


async def test_an_expired_access_token_is_a_soft_logout_and_the_device_survives(start: Any) -> None:
    """AUTH-19: from memory and from the database alike."""
    clock = FakeClock()
    server = await start(clock=clock, auth=LIFETIME)
    alice = await server.register("alice", refresh_token=True)
    assert await works(server, alice.token)
    await clock.advance(299)
    assert await works(server, alice.token)
    await clock.advance(1)
    refusal = await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    assert refusal["soft_logout"] is True
    answer = await refresh(server, alice.refresh_token)
    whoami = await server.client.get("/account/whoami", token=answer["access_token"])
    assert whoami["device_id"] == alice.device_id
    refusal = await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


@pytest.mark.parametrize("refreshable", [True, False])
async def test_signing_out_ends_the_device_though_its_token_has_expired(
    start: Any, refreshable: bool
) -> None:
    """AUTH-19, DEV-01: the device is gone, with its refresh token; others stay, and nothing else can be done so."""
    clock = FakeClock()
    server = await start(clock=clock, auth={**LIFETIME, "access_token_lifetime": 300})
    alice = await server.register("alice", refresh_token=refreshable)
    await clock.advance(301)
    other = await alice.login()
    await alice.post("/logout/all", expect=(401, "M_UNKNOWN_TOKEN"))
    await alice.post("/logout")
    assert [each["device_id"] for each in (await other.get("/devices"))["devices"]] == [other.device_id]
    refusal = await alice.post("/logout", expect=(401, "M_UNKNOWN_TOKEN"))
    assert refusal["soft_logout"] is False
    if refreshable:
        await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))


async def test_signing_out_ends_the_device_with_a_token_that_was_never_used(start: Any) -> None:
    """AUTH-18, DEV-01: the answer to a refresh; and with the one before it, while that is good."""
    for use_new in (True, False):
        server = await start(clock=FakeClock(), auth=LIFETIME)
        alice = await server.register("alice", refresh_token=True)
        answer = await refresh(server, alice.refresh_token)
        await server.client.post("/logout", token=answer["access_token"] if use_new else alice.token)
        for token in (answer["access_token"], alice.token):
            assert not await works(server, token)
        await refresh(server, answer["refresh_token"], (401, "M_UNKNOWN_TOKEN"))


async def test_a_session_without_refresh_ends_softly_too_if_so_configured(start: Any) -> None:
    """AUTH-19: logging in again with the device id goes on with the device."""
    clock = FakeClock()
    server = await start(clock=clock, auth={"access_token_lifetime": 60})
    alice = await server.register("alice")
    await clock.advance(61)
    refusal = await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    assert refusal["soft_logout"] is True
    again = await alice.login(device_id=alice.device_id)
    assert len((await again.get("/devices"))["devices"]) == 1


async def test_a_refresh_token_that_waited_too_long_is_a_soft_logout(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock, auth={"refresh_token_lifetime": 3600})
    alice = await server.register("alice", refresh_token=True)
    await clock.advance(3601)
    refusal = await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
    assert refusal["soft_logout"] is True


async def test_refreshing_needs_a_refresh_token_and_nothing_else(server: IdentityServer) -> None:
    """AUTH-18: no access token; an access token is no refresh token."""
    alice = await server.register("alice", refresh_token=True)
    await server.client.post("/refresh", json={}, expect=(400, "M_MISSING_PARAM"))
    for wrong in ("", "made up", alice.token, "x" * 5000):
        await refresh(server, wrong, (401, "M_UNKNOWN_TOKEN"))
    await server.client.get("/account/whoami", token=alice.refresh_token, expect=(401, "M_UNKNOWN_TOKEN"))
    assert (await refresh(server, alice.refresh_token))["access_token"]


async def test_logging_out_ends_the_refresh_token(server: IdentityServer) -> None:
    """AUTH-30."""
    alice = await server.register("alice", refresh_token=True)
    await alice.logout()
    refusal = await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
    assert not refusal.get("soft_logout")


async def test_a_locked_account_cannot_refresh(server: IdentityServer) -> None:
    """ACC-01."""
    alice = await server.register("alice", refresh_token=True)
    account = await server.parts.accounts.find(alice.user_id)
    await server.parts.accounts.set_flags(account.user_nid, locked=True)
    refusal = await refresh(server, alice.refresh_token, (401, "M_USER_LOCKED"))
    assert refusal["soft_logout"] is True
    await server.parts.accounts.set_flags(account.user_nid, locked=False)
    assert await refresh(server, alice.refresh_token)


async def exactly_one_survives(servers: list[IdentityServer], alice: User) -> None:
    """Many refreshes at once over several processes, all answers used at once: one session remains."""
    answers = await asyncio.gather(
        *(refresh(servers[i % len(servers)], alice.refresh_token) for i in range(4))
    )
    assert len({answer["access_token"] for answer in answers}) == 4
    used = await asyncio.gather(
        *(works(servers[(i + 1) % len(servers)], answer["access_token"]) for i, answer in enumerate(answers))
    )
    assert used.count(True) == 1
    survivor = answers[used.index(True)]
    for server in servers:
        assert await works(server, survivor["access_token"])
        await refresh(server, alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
        for answer in answers:
            if answer is not survivor:
                assert not await works(server, answer["access_token"])


async def test_of_racing_refreshes_over_two_processes_one_wins(start: Any) -> None:
    """AUTH-18, race-safe: the database decides, not the process."""
    servers = [await start(alone=False), await start(alone=False)]
    for _ in range(5):
        await exactly_one_survives(servers, await servers[0].register("alice", refresh_token=True))


async def test_use_and_refresh_at_once_never_revive_the_old_token(start: Any) -> None:
    """AUTH-18: whichever comes first, afterwards at most one line of tokens is alive."""
    servers = [await start(alone=False), await start(alone=False)]
    for _ in range(10):
        alice = await servers[0].register("alice", refresh_token=True)
        new = await refresh(servers[0], alice.refresh_token)
        used, again = await asyncio.gather(
            works(servers[0], new["access_token"]),
            servers[1].client.exchange(
                "POST", "/refresh", json={"refresh_token": alice.refresh_token}, expect=None
            ),
        )
        assert used
        await refresh(servers[1], alice.refresh_token, (401, "M_UNKNOWN_TOKEN"))
        if again.status == 200:
            assert not await works(servers[1], again.json["access_token"])
        assert await works(servers[1], new["access_token"])
