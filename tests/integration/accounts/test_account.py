"""One's own account: password, end, OpenID: CHECKLIST AUTH-28, AUTH-29, AUTH-33, OID-01."""

import asyncio
from typing import Any

import pytest

from homeserver.runtime.clock import FakeClock
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User

NEW = "another good password"


def proof(user: User, password: str = PASSWORD) -> dict[str, Any]:
    return {"type": "m.login.password", "user": user.user_id, "password": password}


async def change(user: User, expect: Any = 200, **body: Any) -> Any:
    full = {"new_password": NEW, "auth": proof(user), **body}
    return await user.post("/account/password", json=full, expect=expect)


# ------------------------------------------------------------------------------------------------------------ password


async def test_a_new_password_ends_the_other_devices_and_keeps_this_one(server: IdentityServer) -> None:
    """AUTH-28."""
    alice = await server.register("alice", refresh_token=True)
    phone = await alice.login(refresh_token=True)
    await change(alice)
    await alice.get("/account/whoami")
    await phone.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await server.client.post("/refresh", json={"refresh_token": phone.refresh_token}, expect=401)
    await server.client.post("/refresh", json={"refresh_token": alice.refresh_token})
    await server.login(alice.user_id, PASSWORD, expect=(403, "M_FORBIDDEN"))
    await server.login(alice.user_id, NEW)


async def test_the_other_devices_can_be_kept(server: IdentityServer) -> None:
    """AUTH-28."""
    alice = await server.register("alice")
    phone = await alice.login()
    await change(alice, logout_devices=False)
    await phone.get("/account/whoami")
    await server.login(alice.user_id, NEW)


async def test_a_weak_password_is_refused_before_anything_is_asked(server: IdentityServer) -> None:
    """AUTH-28."""
    alice = await server.register("alice")
    await alice.post("/account/password", json={"new_password": "weak"}, expect=(400, "M_WEAK_PASSWORD"))
    await alice.post("/account/password", json={}, expect=(400, "M_MISSING_PARAM"))
    await alice.post("/account/password", json={"new_password": 5}, expect=(400, "M_BAD_JSON"))


async def test_the_old_password_must_be_known(server: IdentityServer) -> None:
    """AUTH-28."""
    alice = await server.register("alice")
    question = await alice.post("/account/password", json={"new_password": NEW}, expect=401)
    assert question["flows"] == [{"stages": ["m.login.password"]}]
    refusal = await change(alice, 401, auth=proof(alice, "wrong"))
    assert refusal["errcode"] == "M_FORBIDDEN"
    await server.login(alice.user_id, PASSWORD)


async def test_without_a_token_nothing_tells_whose_password_it_is(server: IdentityServer) -> None:
    body = {"new_password": NEW}
    await server.client.post("/account/password", json=body, expect=(401, "M_MISSING_TOKEN"))


async def test_where_nobody_logs_in_by_password_nobody_changes_one(start: Any) -> None:
    """CAP-02."""
    server = await start(auth={"password_login": False})
    alice = await server.register("alice")
    await change(alice, (403, "M_FORBIDDEN"))
    capabilities = (await alice.get("/capabilities"))["capabilities"]
    assert capabilities["m.change_password"] == {"enabled": False}


# ----------------------------------------------------------------------------------------------------------------- end


async def test_an_ended_account_lets_nobody_in_ever_again(server: IdentityServer) -> None:
    """AUTH-29, AUTH-09."""
    alice = await server.register("alice", refresh_token=True)
    phone = await alice.login()
    openid = await alice.post("/user/{}/openid/request_token", alice.user_id)
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    ended = await alice.post("/account/deactivate", json={"auth": proof(alice)})
    assert ended == {"id_server_unbind_result": "success"}
    for session in (alice, phone):
        await session.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await server.client.post(
        "/refresh", json={"refresh_token": alice.refresh_token}, expect=(401, "M_UNKNOWN_TOKEN")
    )
    await server.login(alice.user_id, expect=(403, "M_USER_DEACTIVATED"))
    body = {"username": alice.localpart, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    await server.client.post("/register", json=body, expect=(400, "M_USER_IN_USE"))
    params = {"username": alice.localpart}
    await server.client.get("/register/available", params=params, expect=(400, "M_USER_IN_USE"))
    await server.client.get("/profile/{}", alice.user_id, expect=(404, "M_NOT_FOUND"))
    assert await server.parts.openid.user_of(openid["access_token"]) is None


@pytest.mark.parametrize("erase", [False, True])
async def test_the_wish_to_be_erased_is_kept_and_carried_out(start: Any, erase: bool) -> None:
    """AUTH-29."""
    server = await start()
    left: list[str] = []
    forgotten: list[int] = []

    class Rooms:
        async def leave_all_rooms(self, user_id: str) -> None:
            left.append(user_id)

    class Filters:
        async def forget_user(self, user_nid: int, user_id: str) -> None:
            forgotten.append(user_nid)

    server.parts.ending.leave_with(Rooms())
    server.parts.ending.forget_with(Filters())
    alice = await server.register("alice")
    await alice.post("/account/deactivate", json={"auth": proof(alice), "erase": erase})
    account = await server.parts.accounts.find(alice.user_id)
    assert account.erased is erase
    assert left == [alice.user_id]
    assert forgotten == [account.user_nid]


async def test_rooms_are_left_by_another_process_if_the_first_one_dies(start: Any) -> None:
    """AUTH-29: the account ends at once, what it entails survives a crash."""
    clock = FakeClock()
    dying, other = await start(clock=clock, alone=False), await start(clock=clock, alone=False)
    began, left = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def leave_all_rooms(self, user_id: str) -> None:
            began.set()
            await asyncio.Event().wait()

    class Rooms:
        async def leave_all_rooms(self, user_id: str) -> None:
            left.set()

    dying.parts.ending.leave_with(Hanging())
    alice = await dying.register("alice")
    request = asyncio.create_task(alice.post("/account/deactivate", json={"auth": proof(alice)}))
    await asyncio.wait_for(began.wait(), 60)
    dying.die()
    await request
    other.parts.ending.leave_with(Rooms())
    await other.all_jobs_are_due()
    await asyncio.wait_for(left.wait(), 60)


# -------------------------------------------------------------------------------------------------------------- OpenID


async def test_an_openid_token_proves_who_one_is_and_nothing_else(start: Any) -> None:
    """OID-01."""
    clock = FakeClock()
    server = await start(clock=clock)
    alice, bob = await server.register("alice"), await server.register("bob")
    made = await alice.post("/user/{}/openid/request_token", alice.user_id)
    assert (made["token_type"], made["matrix_server_name"], made["expires_in"]) == (
        "Bearer",
        "localhost",
        3600,
    )
    await alice.post("/user/{}/openid/request_token", bob.user_id, expect=(403, "M_FORBIDDEN"))
    await server.client.get("/account/whoami", token=made["access_token"], expect=(401, "M_UNKNOWN_TOKEN"))
    assert await server.parts.openid.user_of(made["access_token"]) == alice.user_id
    assert await server.parts.openid.user_of(alice.token) is None
    await clock.advance(3600)
    assert await server.parts.openid.user_of(made["access_token"]) is None
