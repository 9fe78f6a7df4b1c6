"""Letting one more device in: CHECKLIST AUTH-12, AUTH-13, CAP-02."""

import asyncio
from typing import Any

from homeserver.runtime.clock import FakeClock
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User

PATH = "/_matrix/client/v1/login/get_token"


def proof(user: User, **more: Any) -> dict[str, Any]:
    return {"auth": {"type": "m.login.password", "user": user.user_id, "password": PASSWORD, **more}}


async def get_token(user: User) -> dict[str, Any]:
    return dict(await user.post(PATH, json=proof(user)))


async def use(server: IdentityServer, token: str, expect: Any = 200) -> dict[str, Any]:
    body = {"type": "m.login.token", "token": token}
    return dict(await server.client.post("/login", json=body, expect=expect))


async def test_a_token_lets_one_more_device_in_once(server: IdentityServer) -> None:
    """AUTH-12."""
    alice = await server.register("alice")
    made = await get_token(alice)
    assert made["expires_in_ms"] == 120_000
    reply = await use(server, made["login_token"])
    assert reply["user_id"] == alice.user_id
    assert reply["device_id"] != alice.device_id
    await use(server, made["login_token"], (403, "M_FORBIDDEN"))


async def test_of_many_who_use_it_at_once_one_gets_in(server: IdentityServer) -> None:
    """AUTH-12."""
    token = (await get_token(await server.register("alice")))["login_token"]
    body = {"type": "m.login.token", "token": token}
    answers = await asyncio.gather(
        *(server.client.exchange("POST", "/login", json=body, expect=None) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] + [403] * 7


async def test_a_token_is_good_for_two_minutes(start: Any) -> None:
    """AUTH-12."""
    clock = FakeClock()
    server = await start(clock=clock)
    alice = await server.register("alice")
    in_time, too_late = await get_token(alice), await get_token(alice)
    await clock.advance(119)
    await use(server, in_time["login_token"])
    await clock.advance(1)
    await use(server, too_late["login_token"], (403, "M_FORBIDDEN"))


async def test_every_token_asks_for_a_proof_of_its_own(server: IdentityServer) -> None:
    """AUTH-13."""
    alice = await server.register("alice")
    question = await alice.exchange("POST", PATH, data=b"", expect=401)
    session = question.json["session"]
    await alice.post(PATH, json=proof(alice, session=session))
    await alice.post(PATH, json=proof(alice, session=session), expect=(400, "M_UNKNOWN"))
    await alice.post(PATH, json={"auth": {"session": session}}, expect=(400, "M_UNKNOWN"))


async def test_a_proof_that_is_used_twice_at_once_makes_one_token(server: IdentityServer) -> None:
    """AUTH-13."""
    alice = await server.register("alice")
    session = (await alice.exchange("POST", PATH, data=b"", expect=401)).json["session"]
    answers = await asyncio.gather(
        *(alice.exchange("POST", PATH, json=proof(alice, session=session), expect=None) for _ in range(4))
    )
    assert [answer.status for answer in answers].count(200) == 1


async def test_wrong_and_made_up_tokens_let_nobody_in(server: IdentityServer) -> None:
    """AUTH-09."""
    alice = await server.register("alice")
    for token in ("", "made up", alice.token, "x" * 5000):
        await use(server, token, (403, "M_FORBIDDEN"))


async def test_a_token_of_an_account_that_ended_is_void(server: IdentityServer) -> None:
    alice = await server.register("alice")
    token = (await get_token(alice))["login_token"]
    await alice.post("/account/deactivate", json=proof(alice))
    await use(server, token, (403, "M_FORBIDDEN"))


async def test_where_it_is_off_nobody_gets_a_token(start: Any) -> None:
    """AUTH-13, CAP-02."""
    server = await start(auth={"login_tokens": False})
    alice = await server.register("alice")
    await alice.post(PATH, json=proof(alice), expect=(400, "M_UNKNOWN"))
    await use(server, "any", (400, "M_UNKNOWN"))
    assert (await alice.get("/capabilities"))["capabilities"]["m.get_login_token"] == {"enabled": False}


async def test_a_new_password_voids_tokens_that_were_not_used_yet(server: IdentityServer) -> None:
    """AUTH-28: whoever got hold of one is out, as their devices are."""
    alice = await server.register("alice")
    token = (await get_token(alice))["login_token"]
    await alice.post("/account/password", json={"new_password": "another good one", **proof(alice)})
    await use(server, token, (403, "M_FORBIDDEN"))
