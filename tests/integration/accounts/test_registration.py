"""Making accounts: CHECKLIST AUTH-20 to AUTH-22."""

import asyncio
import hashlib
import hmac
from typing import Any

import pytest

from homeserver.config import ConfigError
from homeserver.runtime.clock import FakeClock, FakeEntropy
from homeserver.uia.service import Uia
from homeserver.web.rate_limit import RateLimiter
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD

DUMMY = {"type": "m.login.dummy"}


async def register(server: IdentityServer, expect: Any = 200, **body: Any) -> dict[str, Any]:
    full = {"password": PASSWORD, "auth": DUMMY, **body}
    return dict(await server.client.post("/register", json=full, expect=expect))


async def test_by_default_nobody_can_register(start: Any) -> None:
    server = await start(registration={"enabled": False, "guests": False})
    await register(server, (403, "M_FORBIDDEN"), username="alice")
    await server.client.post("/register", json={}, params={"kind": "guest"}, expect=(403, "M_FORBIDDEN"))
    await server.client.get("/register/available", params={"username": "a"}, expect=(403, "M_FORBIDDEN"))


async def test_a_step_that_cannot_be_asked_for_keeps_the_server_from_starting(start: Any) -> None:
    server = await start(registration={"flows": [["token", "dummy"]]})
    registration = server.parts.registration
    registration.check_possible(server.parts.uia)
    assert server.db is not None
    clock, limiter = FakeClock(), RateLimiter(FakeClock(), {})
    knows_nothing = Uia(db=server.db, clock=clock, entropy=FakeEntropy(1), limiter=limiter, lifetime_ms=1)
    with pytest.raises(ConfigError, match=r"registration\.flows: this version cannot ask for token"):
        registration.check_possible(knows_nothing)


@pytest.mark.parametrize(
    ("username", "errcode"),
    [
        ("", "M_INVALID_USERNAME"),
        ("al ice", "M_INVALID_USERNAME"),
        ("álice", "M_INVALID_USERNAME"),
        ("a@b", "M_INVALID_USERNAME"),
        ("a*b", "M_INVALID_USERNAME"),
        ("a:b", "M_INVALID_USERNAME"),
        ("@alice:localhost", "M_INVALID_USERNAME"),
        ("x" * 256, "M_INVALID_USERNAME"),
        ("root", "M_INVALID_USERNAME"),
        ("Taken", "M_USER_IN_USE"),
    ],
)
async def test_names_are_judged_before_anything_is_asked(start: Any, username: str, errcode: str) -> None:
    """AUTH-20."""
    server = await start(registration={"reserved_names": ["root", "admin.*"]})
    await server.register_exactly("taken")
    await server.client.post("/register", json={"username": username}, expect=(400, errcode))
    available = "/register/available"
    await server.client.get(available, params={"username": username}, expect=(400, errcode))


@pytest.mark.parametrize("username", ["a", "alice.bob", "_irc_x", "a=b", "a/b", "a+b", "0123", "x" * 244])
async def test_every_name_of_the_grammar_can_be_had(server: IdentityServer, username: str) -> None:
    """AUTH-20."""
    assert await server.client.get("/register/available", params={"username": username}) == {
        "available": True
    }
    assert (await register(server, username=username))["user_id"] == f"@{username}:localhost"


async def test_capitals_become_small(server: IdentityServer) -> None:
    """AUTH-20: mapped in a logical manner."""
    made = await register(server, username="Capital-User")
    assert made["user_id"] == "@capital-user:localhost"
    await register(server, (400, "M_USER_IN_USE"), username="capital-USER")


async def test_whoever_wishes_for_no_name_is_given_one(server: IdentityServer) -> None:
    """AUTH-20."""
    first, second = await register(server), await register(server)
    assert first["user_id"] != second["user_id"]
    assert first["device_id"]


async def test_logging_in_can_be_left_out(server: IdentityServer) -> None:
    """AUTH-20."""
    made = await register(server, inhibit_login=True, refresh_token=True)
    assert made.keys() == {"user_id", "home_server"}
    again = await server.login(made["user_id"])
    assert len((await again.get("/devices"))["devices"]) == 1


async def test_the_device_asked_for_is_made(server: IdentityServer) -> None:
    made = await register(server, device_id="LAPTOP", initial_device_display_name="Work")
    assert made["device_id"] == "LAPTOP"
    device = await server.client.get("/devices/LAPTOP", token=made["access_token"])
    assert device["display_name"] == "Work"


async def test_of_many_who_want_one_name_one_gets_it(server: IdentityServer) -> None:
    body = {"username": "wanted", "password": PASSWORD, "auth": DUMMY}
    answers = await asyncio.gather(
        *(server.client.exchange("POST", "/register", json=body, expect=None) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] + [400] * 7


@pytest.mark.parametrize(
    ("password", "expect"),
    [
        ("short", (400, "M_WEAK_PASSWORD")),
        ("no digits here!A", (400, "M_WEAK_PASSWORD")),
        ("1no symbol hereA".replace(" ", "x"), (400, "M_WEAK_PASSWORD")),
        ("1 no upper case", (400, "M_WEAK_PASSWORD")),
        ("1 NO LOWER CASE", (400, "M_WEAK_PASSWORD")),
        ("x" * 2000, (400, "M_INVALID_PARAM")),
        ("1 Good enough!", 200),
    ],
)
async def test_weak_passwords_are_refused_before_anything_is_asked(
    start: Any, password: str, expect: Any
) -> None:
    """AUTH-28."""
    demands = dict.fromkeys(
        ("require_digit", "require_symbol", "require_lowercase", "require_uppercase"), True
    )
    server = await start(auth={"password_policy": {"minimum_length": 8, **demands}})
    await server.client.post(
        "/register", json={"password": password}, expect=401 if expect == 200 else expect
    )
    await register(server, expect, password=password)


async def test_an_account_needs_a_password(server: IdentityServer) -> None:
    await server.client.post("/register", json={"auth": DUMMY}, expect=(400, "M_MISSING_PARAM"))


@pytest.mark.parametrize("field", ["username", "password", "device_id", "inhibit_login", "refresh_token"])
async def test_fields_of_the_wrong_kind_are_told_so(server: IdentityServer, field: str) -> None:
    """API-03."""
    refusal = await register(server, (400, "M_BAD_JSON"), **{field: [1]})
    assert field in refusal["error"]


async def test_there_are_two_kinds_of_account(server: IdentityServer) -> None:
    await server.client.post("/register", json={}, params={"kind": "alien"}, expect=(400, "M_INVALID_PARAM"))
    await server.client.post("/register", json={}, params={"kind": "user"}, expect=401)


async def test_registrations_from_one_address_are_limited(start: Any) -> None:
    server = await start(rate_limits={"enabled": True, "registration": {"per_second": 0.01, "burst": 2}})
    for _ in range(2):
        await register(server)
    await register(server, (429, "M_LIMIT_EXCEEDED"))


async def test_registering_takes_two_transactions(server: IdentityServer) -> None:
    """One request begins the authentication, the other makes account, device and token."""
    assert server.db is not None
    begun = 0
    transaction = server.db.transaction

    def counted() -> Any:
        nonlocal begun
        begun += 1
        return transaction()

    server.db.transaction = counted  # type: ignore[method-assign]
    try:
        alice = await server.register("alice")
        await alice.get("/account/whoami")
    finally:
        server.db.transaction = transaction  # type: ignore[method-assign]
    assert begun == 2


# -------------------------------------------------------------------------------------------------------------- guests


async def guest(server: IdentityServer, **body: Any) -> dict[str, Any]:
    return dict(await server.client.post("/register", json=body, params={"kind": "guest"}))


async def test_of_a_guests_wishes_only_the_device_name_counts(server: IdentityServer) -> None:
    """AUTH-21."""
    made = await guest(
        server,
        username="chosen",
        password="x",
        device_id="CHOSEN",
        refresh_token=True,
        inhibit_login="nonsense",
        initial_device_display_name="Café",
    )
    assert made["user_id"] != "@chosen:localhost"
    assert made["device_id"] != "CHOSEN"
    assert "refresh_token" not in made
    devices = await server.client.get("/devices", token=made["access_token"])
    assert devices["devices"][0]["display_name"] == "Café"
    whoami = await server.client.get("/account/whoami", token=made["access_token"])
    assert whoami["is_guest"] is True


async def test_a_guest_becomes_a_user_of_the_same_name(server: IdentityServer) -> None:
    """AUTH-22."""
    made = await guest(server)
    localpart = made["user_id"][1:].partition(":")[0]
    upgraded = await register(server, username=localpart, guest_access_token=made["access_token"])
    assert upgraded["user_id"] == made["user_id"]
    for token in (made["access_token"], upgraded["access_token"]):
        whoami = await server.client.get("/account/whoami", token=token)
        assert "is_guest" not in whoami
    await server.login(localpart)


async def test_a_guest_can_neither_take_another_name_nor_be_taken_over(server: IdentityServer) -> None:
    """AUTH-22."""
    made, alice = await guest(server), await server.register("alice")
    token = made["access_token"]
    await register(server, (400, "M_INVALID_USERNAME"), username="other.name", guest_access_token=token)
    await register(server, (400, "M_INVALID_USERNAME"), guest_access_token=token)
    await register(server, (401, "M_UNKNOWN_TOKEN"), username="any", guest_access_token="made up")
    localpart = made["user_id"][1:].partition(":")[0]
    await register(server, (400, "M_USER_IN_USE"), username=localpart)
    await register(server, (403, "M_FORBIDDEN"), username=alice.localpart, guest_access_token=alice.token)
    await register(server, username=localpart, guest_access_token=token)
    await register(server, (403, "M_FORBIDDEN"), username=localpart, guest_access_token=token)


# -------------------------------------------------------------------------------------------------------- shared secret


def mac_of(
    nonce: str, username: str, password: str, *more: str, secret: str = "dev", admin: bool = False
) -> str:
    said = "\0".join([nonce, username, password, "admin" if admin else "notadmin", *more])
    return hmac.new(secret.encode(), said.encode(), hashlib.sha1).hexdigest()


SECRET_PATH = "/_synapse/admin/v1/register"


async def with_secret(server: IdentityServer, body: dict[str, Any], expect: Any = 200) -> dict[str, Any]:
    return dict(await server.client.post(SECRET_PATH, json=body, expect=expect))


async def new_nonce(server: IdentityServer) -> str:
    return str((await server.client.get(SECRET_PATH))["nonce"])


@pytest.mark.parametrize("admin", [False, True])
async def test_whoever_knows_the_secret_makes_accounts(server: IdentityServer, admin: bool) -> None:
    nonce, name = await new_nonce(server), f"secretly.{admin}".lower()
    body = {"nonce": nonce, "username": name, "password": "pizza", "admin": admin}
    made = await with_secret(
        server, {**body, "password": PASSWORD, "mac": mac_of(nonce, name, PASSWORD, admin=admin)}
    )
    assert made["user_id"] == f"@{name}:localhost"
    assert made["home_server"] == "localhost"
    capabilities = (await server.client.get("/capabilities", token=made["access_token"]))["capabilities"]
    assert ("m.account_moderation" in capabilities) is admin
    await server.login(name)


async def test_name_and_kind_of_user_can_be_given(server: IdentityServer) -> None:
    nonce = await new_nonce(server)
    mac = mac_of(nonce, "secret.bot", PASSWORD, "bot")
    body = {"nonce": nonce, "username": "secret.bot", "password": PASSWORD, "user_type": "bot", "mac": mac}
    made = await with_secret(server, {**body, "displayname": "Robot", "inhibit_login": True})
    assert "access_token" not in made
    assert await server.client.get("/profile/{}", made["user_id"]) == {"displayname": "Robot"}
    account = await server.parts.accounts.find(made["user_id"])
    assert account is not None
    assert account.user_type == "bot"


async def test_a_nonce_is_good_for_one_account_within_a_minute(start: Any) -> None:
    clock = FakeClock()
    server = await start(clock=clock)
    nonce = await new_nonce(server)

    def body(name: str, **more: Any) -> dict[str, Any]:
        mac = mac_of(nonce, name, PASSWORD)
        return {"nonce": nonce, "username": name, "password": PASSWORD, "mac": mac, **more}

    await with_secret(server, body("first", mac="00"), (403, "M_FORBIDDEN"))
    await with_secret(server, body("first", admin=True), (403, "M_FORBIDDEN"))
    await with_secret(server, body("first", nonce="made.up.nonce"), (400, "M_INVALID_PARAM"))
    await with_secret(server, body("first", nonce=""), (400, "M_INVALID_PARAM"))
    await with_secret(server, body("first"))
    await with_secret(server, body("second"), (403, "M_FORBIDDEN"))
    nonce = await new_nonce(server)
    await clock.advance(60)
    await with_secret(server, body("third"), (400, "M_INVALID_PARAM"))
    nonce = await new_nonce(server)
    await with_secret(server, body("first"), (400, "M_USER_IN_USE"))


async def test_without_a_secret_that_way_is_closed(start: Any) -> None:
    server = await start(registration={"shared_secret": None})
    await server.client.get(SECRET_PATH, expect=(400, "M_UNKNOWN"))
    body = {"nonce": "n", "username": "u", "password": PASSWORD, "mac": mac_of("n", "u", PASSWORD, secret="")}
    await with_secret(server, body, (400, "M_UNKNOWN"))
