"""Logging in and out: CHECKLIST AUTH-01, AUTH-08 to AUTH-12, AUTH-30, AUTH-33."""

from typing import Any

import pytest

from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD


async def test_the_ways_in_are_listed_without_a_token(server: IdentityServer) -> None:
    """AUTH-01, AUTH-13: support for login tokens shows on the flow."""
    flows = (await server.client.get("/login"))["flows"]
    assert {"type": "m.login.password"} in flows
    assert {"type": "m.login.token", "get_login_token": True} in flows


async def test_a_closed_way_in_is_not_listed_and_leads_nowhere(start: Any) -> None:
    server = await start(auth={"login_tokens": False, "password_login": False})
    flows = [flow["type"] for flow in (await server.client.get("/login"))["flows"]]
    assert flows == ["m.login.application_service"]
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "a"}, "password": "b"}
    await server.client.post("/login", json=body, expect=(400, "M_UNKNOWN"))


async def test_a_registered_person_logs_in_and_out(server: IdentityServer) -> None:
    """AUTH-10, AUTH-30, AUTH-33, API-14."""
    alice = await server.register("alice")
    phone = await alice.login()
    assert phone.device_id != alice.device_id
    assert await phone.get("/account/whoami") == {"user_id": alice.user_id, "device_id": phone.device_id}
    await phone.logout()
    await phone.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    assert [d["device_id"] for d in (await alice.get("/devices"))["devices"]] == [alice.device_id]


async def test_logging_out_everywhere_asks_for_nothing_more(server: IdentityServer) -> None:
    """AUTH-30."""
    alice = await server.register("alice")
    phone = await alice.login()
    await alice.exchange("POST", "/logout/all", data=b"")
    for session in (alice, phone):
        refusal = await session.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
        assert not refusal.get("soft_logout")
    again = await alice.login()
    assert len((await again.get("/devices"))["devices"]) == 1


@pytest.mark.parametrize(
    "who",
    [
        lambda user: {"identifier": {"type": "m.id.user", "user": user.user_id}},
        lambda user: {"identifier": {"type": "m.id.user", "user": user.localpart}},
        lambda user: {"identifier": {"type": "m.id.user", "user": user.localpart.upper()}},
        lambda user: {"user": user.user_id},
        lambda user: {"user": user.localpart},
    ],
    ids=["whole id", "localpart", "capitals", "deprecated whole id", "deprecated localpart"],
)
async def test_a_user_can_be_named_in_many_ways(server: IdentityServer, who: Any) -> None:
    """AUTH-08."""
    alice = await server.register("alice")
    reply = await server.client.post(
        "/login", json={"type": "m.login.password", "password": PASSWORD, **who(alice)}
    )
    assert reply["user_id"] == alice.user_id


@pytest.mark.parametrize(
    "who",
    [
        {"identifier": {"type": "m.id.user", "user": "nobody"}},
        {"identifier": {"type": "m.id.user", "user": "@alice:elsewhere.example"}},
        {"identifier": {"type": "m.id.user", "user": ""}},
        {"identifier": {"type": "m.id.user", "user": "@"}},
        {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@example.com"}},
        {"identifier": {"type": "m.id.phone", "country": "GB", "phone": "0123456789"}},
        {"identifier": {"type": "m.id.phone", "country": "GB", "number": "0123456789"}},
        {"medium": "email", "address": "a@example.com"},
    ],
)
async def test_whoever_is_not_known_is_forbidden(server: IdentityServer, who: dict[str, Any]) -> None:
    """AUTH-08, AUTH-09."""
    body = {"type": "m.login.password", "password": "whatever", **who}
    await server.client.post("/login", json=body, expect=(403, "M_FORBIDDEN"))


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"type": 5}, "M_BAD_JSON"),
        ({"type": "m.login.unheard_of"}, "M_UNKNOWN"),
        ({"type": "m.login.password", "password": "x"}, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": {}, "password": "x"}, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": "alice", "password": "x"}, "M_BAD_JSON"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.user"}, "password": "x"}, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": 5}, "password": "x"}, "M_BAD_JSON"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.cat", "user": "a"}, "password": "x"}, "M_INVALID_PARAM"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "a"}}, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "identifier": {"type": "m.id.phone", "country": "GB"}, "password": "x"}, "M_MISSING_PARAM"),
        ({"type": "m.login.token"}, "M_MISSING_PARAM"),
    ],
)  # fmt: skip
async def test_what_is_malformed_is_told_so(
    server: IdentityServer, body: dict[str, Any], errcode: str
) -> None:
    """API-03."""
    await server.client.post("/login", json=body, expect=(400, errcode))


async def test_a_wrong_password_is_forbidden(server: IdentityServer) -> None:
    """AUTH-09."""
    alice = await server.register("alice")
    for password in ("wrong", "", "x" * 5000, "é" * 300):
        await server.login(alice.user_id, password, expect=(403, "M_FORBIDDEN"))
    await server.login(alice.user_id, PASSWORD + "\0", expect=(400, "M_INVALID_PARAM"))


async def test_letters_composed_in_another_way_are_the_same_password(server: IdentityServer) -> None:
    alice = await server.register("alice", password="p\u00e5ssword-\u212b")
    await server.login(alice.user_id, "pa\u030assword-\u00c5")


async def test_a_known_device_is_reused_keeps_its_name_and_loses_its_old_tokens(
    server: IdentityServer,
) -> None:
    """AUTH-10, AUTH-11."""
    alice = await server.register("alice", device_id="KITCHEN", initial_device_display_name="Radio")
    assert alice.device_id == "KITCHEN"
    again = await alice.login(device_id="KITCHEN", initial_device_display_name="Toaster")
    assert again.device_id == "KITCHEN"
    await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    assert (await again.get("/devices/KITCHEN"))["display_name"] == "Radio"
    assert len((await again.get("/devices"))["devices"]) == 1


async def test_the_name_of_a_new_device_is_kept_short(server: IdentityServer) -> None:
    alice = await server.register("alice", initial_device_display_name="n" * 5000)
    assert (await alice.get("/devices/{}", alice.device_id))["display_name"] == "n" * 256


@pytest.mark.parametrize("device_id", ["x" * 256, "a\u0007b"])
async def test_device_ids_nobody_should_choose_are_refused(server: IdentityServer, device_id: str) -> None:
    alice = await server.register("alice")
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
        "device_id": device_id,
    }
    await server.client.post("/login", json=body, expect=(400, "M_INVALID_PARAM"))


async def test_a_device_called_like_a_cross_signing_key_is_refused(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUTH-10."""
    server = await start()

    async def is_key(user_nid: int, device_id: str) -> bool:
        return bool(user_nid) and device_id == "MASTERKEY"

    monkeypatch.setattr(server.parts.cross_signing, "is_key", is_key)
    alice = await server.register("alice")
    await server.login(alice.user_id, device_id="MASTERKEY", expect=(403, "M_FORBIDDEN"))
    await server.login(alice.user_id, device_id="OTHER")


async def test_a_token_may_stand_in_the_query_too(server: IdentityServer) -> None:
    """API-13."""
    alice = await server.register("alice")
    params = {"access_token": alice.token}
    assert (await server.client.get("/account/whoami", params=params))["user_id"] == alice.user_id


async def test_without_a_token_or_with_a_made_up_one_nobody_is_let_in(server: IdentityServer) -> None:
    """API-14."""
    await server.client.get("/account/whoami", expect=(401, "M_MISSING_TOKEN"))
    for token in ("made-up", "x" * 4000, "ata_" + "A" * 43):
        await server.client.get("/account/whoami", token=token, expect=(401, "M_UNKNOWN_TOKEN"))


async def test_only_hashes_of_tokens_are_stored(server: IdentityServer) -> None:
    alice = await server.register("alice", refresh_token=True)
    assert server.db is not None
    async with server.db.read() as tx:
        stored = await tx.all("SELECT hash FROM access_tokens UNION SELECT hash FROM refresh_tokens")
    text = repr(stored)
    assert alice.token not in text
    assert str(alice.refresh_token) not in text
    assert all(len(row[0]) == 32 for row in stored)


async def test_failed_logins_are_slowed_down_and_say_when_to_return(start: Any) -> None:
    """API-08."""
    limits = {
        "enabled": True,
        "login": None,
        "login_failed": {"per_second": 0.01, "burst": 3},
        "ui_auth": None,
    }
    server = await start(rate_limits=limits)
    alice = await server.register("alice")
    for _ in range(3):
        await server.login(alice.user_id, "wrong", expect=(403, "M_FORBIDDEN"))
    answer = await server.client.exchange(
        "POST",
        "/login",
        json={
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": alice.localpart.upper()},
            "password": PASSWORD,
        },
        expect=(429, "M_LIMIT_EXCEEDED"),
    )
    assert 0 < int(answer.headers["retry-after"]) <= 100


async def test_logins_from_one_address_are_limited(start: Any) -> None:
    server = await start(
        rate_limits={"enabled": True, "login": {"per_second": 0.01, "burst": 2}, "login_failed": None}
    )
    for _ in range(2):
        await server.login("nobody", "wrong", expect=(403, "M_FORBIDDEN"))
    await server.login("nobody", "wrong", expect=(429, "M_LIMIT_EXCEEDED"))


async def test_all_addresses_of_an_ipv6_network_are_limited_together(start_server: Any) -> None:
    server = await start_server(
        rate_limits={"enabled": True, "login": {"per_second": 0.01, "burst": 3}, "login_failed": None}
    )
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "x"}, "password": "wrong"}
    statuses = []
    for address in ("2001:db8:7::1", "2001:db8:7::2", "2001:db8:7::a:3", "2001:db8:7::4", "2001:db8:7:1::1"):
        answer = await server.client.exchange(
            "POST", "/login", json=body, headers={"X-Forwarded-For": address}, expect=None
        )
        statuses.append(answer.status)
    assert statuses == [403, 403, 403, 429, 403]


async def test_failures_do_not_tell_whose_name_it_is(start: Any) -> None:
    """AUTH-09: those of nobody are counted as those of somebody, each by itself, in whatever spelling."""
    limits = {"enabled": True, "login": None, "login_failed": {"per_second": 0.01, "burst": 3}}
    server = await start(rate_limits=limits)
    alice = await server.register("alice")

    async def statuses(*identifiers: dict[str, str]) -> list[int]:
        found = []
        for identifier in identifiers:
            body = {"type": "m.login.password", "identifier": identifier, "password": "wrong"}
            answer = await server.client.exchange("POST", "/login", json=body, expect=None)
            found.append(answer.status)
        return found

    def mail(address: str) -> dict[str, str]:
        return {"type": "m.id.thirdparty", "medium": "email", "address": address}

    def name(text: str) -> dict[str, str]:
        return {"type": "m.id.user", "user": text}

    assert await statuses(*(mail(f"nobody{number}@example.com") for number in range(10))) == [403] * 10
    spellings = ["a@example.com", "A@example.com", " a@EXAMPLE.com ", "a@example.com"]
    assert await statuses(*map(mail, spellings)) == [403, 403, 403, 429]
    for known in (alice.localpart, "nobody"):
        tried = [known, known.upper(), f"@{known}:localhost", known.title()]
        assert await statuses(*map(name, tried)) == [403, 403, 403, 429]


async def test_a_login_answer_tells_where_the_server_is_if_that_is_configured(start: Any) -> None:
    server = await start(server={"public_baseurl": "https://matrix.example.com"})
    alice = await server.register("alice")
    reply = await server.client.post(
        "/login", json={"type": "m.login.password", "user": alice.localpart, "password": PASSWORD}
    )
    assert reply["well_known"] == {"m.homeserver": {"base_url": "https://matrix.example.com"}}


async def test_old_paths_lead_to_the_same_place(server: IdentityServer) -> None:
    alice = await server.register("alice")
    reply = await server.client.post(
        "/_matrix/client/r0/login",
        json={"type": "m.login.password", "user": alice.localpart, "password": PASSWORD},
    )
    assert reply["user_id"] == alice.user_id
