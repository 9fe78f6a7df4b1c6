"""Application services as requesters: CHECKLIST AUTH-33, AUTH-34, DEV-01, DEV-02, AUTH-20."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD

AS_TYPE = "m.login.application_service"
TOKEN = "the bridge's own secret"


@dataclass(frozen=True)
class Bridge:
    """An application service that watches over users whose names begin with `_irc_`."""

    id: str = "irc"
    sender: str = "@ircbot:localhost"
    rate_limited: bool = False

    def covers(self, user_id: str) -> bool:
        return user_id == self.sender or user_id.startswith("@_irc_")


@dataclass(frozen=True)
class Nobodys(Bridge):
    """One that watches over everybody, and claims nobody for itself."""

    def covers(self, user_id: str) -> bool:
        return True


@dataclass
class OneBridge:
    bridge: Bridge = field(default_factory=Bridge)

    def by_token(self, token: str) -> Bridge | None:
        return self.bridge if token == TOKEN else None

    def claimed_by(self, user_id: str) -> str | None:
        exclusive = self.bridge.covers(user_id) and not isinstance(self.bridge, Nobodys)
        return self.bridge.id if exclusive else None


@pytest.fixture
async def bridged(start: Any) -> IdentityServer:
    server: IdentityServer = await start(appservices=OneBridge())
    for name in ("ircbot", "_irc_bob"):
        await add(server, name)
    return server


async def add(
    server: IdentityServer, username: str, expect: Any = 200, token: str | None = TOKEN, **more: Any
) -> Any:
    body = {"type": AS_TYPE, "username": username, "inhibit_login": True, **more}
    return await server.client.post("/register", json=body, token=token, expect=expect)


async def test_a_bridge_registers_its_users_unasked(bridged: IdentityServer) -> None:
    """AUTH-20."""
    made = await add(bridged, "_irc_carol")
    assert made["user_id"] == "@_irc_carol:localhost"
    assert "access_token" not in made
    await add(bridged, "_irc_carol", (400, "M_USER_IN_USE"))
    await add(bridged, "carol", (400, "M_EXCLUSIVE"))
    await add(bridged, "_irc_dave", (401, "M_UNKNOWN_TOKEN"), token="made up")
    await add(bridged, "_irc_dave", (401, "M_MISSING_TOKEN"), token=None)
    body = {"type": AS_TYPE}
    await bridged.client.post("/register", json=body, token=TOKEN, expect=(400, "M_MISSING_PARAM"))
    with_session = await add(bridged, "_irc_erin", inhibit_login=False, device_id="BRIDGE")
    assert with_session["device_id"] == "BRIDGE"


async def test_a_bridge_registers_its_users_where_nobody_else_can_register(start: Any) -> None:
    server = await start(appservices=OneBridge(), registration={"enabled": False})
    await server.client.post("/register", json={"username": "alice"}, expect=(403, "M_FORBIDDEN"))
    assert (await add(server, "_irc_bob"))["user_id"] == "@_irc_bob:localhost"


async def test_nobody_else_gets_a_name_of_the_bridge(bridged: IdentityServer) -> None:
    """AUTH-20."""
    await bridged.client.post("/register", json={"username": "_irc_x"}, expect=(400, "M_EXCLUSIVE"))
    params = {"username": "_irc_x"}
    await bridged.client.get("/register/available", params=params, expect=(400, "M_EXCLUSIVE"))


async def test_a_bridge_acts_as_its_sender_or_its_users(bridged: IdentityServer) -> None:
    """AUTH-33."""
    client = bridged.client
    for _ in range(2):  # from the database, then from memory
        assert await client.get("/account/whoami", token=TOKEN) == {"user_id": "@ircbot:localhost"}
        as_bob = {"user_id": "@_irc_bob:localhost"}
        assert await client.get("/account/whoami", token=TOKEN, params=as_bob) == as_bob
    alice = await bridged.register("alice")
    for who in (alice.user_id, "@_irc_nobody:localhost", "nonsense"):
        await client.get("/account/whoami", token=TOKEN, params={"user_id": who}, expect=(403, "M_FORBIDDEN"))


async def test_what_is_remembered_of_a_bridged_user_is_forgotten_when_it_changes(
    bridged: IdentityServer,
) -> None:
    """ACC-01, AUTH-29."""
    as_bob = {"user_id": "@_irc_bob:localhost"}
    await bridged.client.get("/account/whoami", token=TOKEN, params=as_bob)
    account = await bridged.parts.accounts.find("@_irc_bob:localhost")  # type: ignore[arg-type]
    assert account is not None
    await bridged.parts.accounts.set_flags(account.user_nid, locked=True)
    await bridged.client.get("/account/whoami", token=TOKEN, params=as_bob, expect=(401, "M_USER_LOCKED"))
    await bridged.parts.accounts.set_flags(account.user_nid, locked=False)
    await bridged.client.post("/account/deactivate", token=TOKEN, params=as_bob)
    await bridged.client.get("/account/whoami", token=TOKEN, params=as_bob, expect=(403, "M_FORBIDDEN"))


@pytest.mark.parametrize("name", ["device_id", "org.matrix.msc3202.device_id"])
async def test_a_bridge_makes_uses_and_ends_devices(bridged: IdentityServer, name: str) -> None:
    """DEV-01, DEV-02: 201 for a new one, 200 afterwards, no questions at the end."""
    client = bridged.client
    as_bob = {"user_id": "@_irc_bob:localhost"}
    with_device = {**as_bob, name: "BOBS"}
    await client.get("/account/whoami", token=TOKEN, params=with_device, expect=(400, "M_UNKNOWN_DEVICE"))
    for status in (201, 200):
        await client.put(
            "/devices/BOBS", json={"display_name": "Bridge"}, token=TOKEN, params=as_bob, expect=status
        )
    assert await client.get("/account/whoami", token=TOKEN, params=with_device) == {
        **as_bob,
        "device_id": "BOBS",
    }
    devices = (await client.get("/devices", token=TOKEN, params=as_bob))["devices"]
    assert [(d["device_id"], d["display_name"]) for d in devices] == [("BOBS", "Bridge")]
    await client.post("/delete_devices", json={"devices": ["BOBS"]}, token=TOKEN, params=as_bob)
    await client.put("/devices/AGAIN", json={}, token=TOKEN, params=as_bob, expect=201)
    await client.delete("/devices/AGAIN", json={}, token=TOKEN, params=as_bob)
    assert (await client.get("/devices", token=TOKEN, params=as_bob))["devices"] == []


async def test_a_bridge_logs_its_users_in(bridged: IdentityServer) -> None:
    """AUTH-34."""
    client = bridged.client
    alice = await bridged.register("alice")

    async def log_in(user: str, expect: Any = 200, token: str | None = TOKEN) -> Any:
        body = {"type": AS_TYPE, "identifier": {"type": "m.id.user", "user": user}}
        return await client.post("/login", json=body, token=token, expect=expect)

    reply = await log_in("_irc_bob")
    assert (await client.get("/account/whoami", token=reply["access_token"]))["device_id"] == reply[
        "device_id"
    ]
    await log_in("@ircbot:localhost")
    await log_in("_irc_bob", (401, "M_UNKNOWN_TOKEN"), token="made up")
    await log_in("_irc_bob", (401, "M_UNKNOWN_TOKEN"), token=alice.token)
    await log_in("_irc_bob", (401, "M_MISSING_TOKEN"), token=None)
    await log_in("_irc_nobody", (403, "M_FORBIDDEN"))
    await log_in(alice.user_id, (400, "M_EXCLUSIVE"))


async def test_what_is_not_for_bridges_is_refused(bridged: IdentityServer) -> None:
    as_bob = {"user_id": "@_irc_bob:localhost"}
    client = bridged.client
    await client.post("/logout", token=TOKEN, params=as_bob, expect=(403, "M_FORBIDDEN"))
    body = {"new_password": PASSWORD}
    await client.post("/account/password", json=body, token=TOKEN, params=as_bob, expect=(403, "M_FORBIDDEN"))
    path = "/_matrix/client/v1/login/get_token"
    await client.post(path, token=TOKEN, params=as_bob, expect=(403, "M_FORBIDDEN"))


async def test_people_cannot_make_devices_by_naming_them(bridged: IdentityServer) -> None:
    """DEV-02."""
    alice = await bridged.register("alice")
    await alice.put("/devices/NEW", json={"display_name": "x"}, expect=(404, "M_NOT_FOUND"))


async def test_a_bridge_gets_no_rights_of_an_administrator_whom_it_covers(bridged: IdentityServer) -> None:
    """AUTH-33, AUTH-34, ACC-04: they are the person's, not of who acts in their name. Its own account may be one."""
    alice = await bridged.register("alice")
    lock = f"/_matrix/client/v1/admin/lock/{alice.user_id}"

    async def flag(user_id: str, **flags: bool) -> None:
        account = await bridged.parts.accounts.find(user_id)  # type: ignore[arg-type]
        assert account is not None
        await bridged.parts.accounts.set_flags(account.user_nid, **flags)

    boss = await bridged.parts.accounts.find("@_irc_bob:localhost")  # type: ignore[arg-type]
    assert boss is not None
    await flag(boss.user_id, is_admin=True)
    client, as_boss = bridged.client, {"user_id": boss.user_id}
    for _ in range(2):  # from the database, then from memory
        await client.get(lock, token=TOKEN, params=as_boss, expect=(403, "M_FORBIDDEN"))
    await client.get(lock, token=TOKEN, expect=(403, "M_FORBIDDEN"))
    await flag("@ircbot:localhost", is_admin=True)
    await client.get(lock, token=TOKEN)
    await client.get(lock, token=TOKEN, params=as_boss, expect=(403, "M_FORBIDDEN"))


async def test_a_bridge_does_not_log_in_as_an_administrator_it_did_not_make(start: Any) -> None:
    """AUTH-34: a session of theirs would have all their rights."""
    server = await start(appservices=OneBridge(Nobodys()))
    boss = await server.register("boss")
    account = await server.parts.accounts.find(boss.user_id)
    await server.parts.accounts.set_flags(account.user_nid, is_admin=True)
    body = {"type": AS_TYPE, "identifier": {"type": "m.id.user", "user": boss.user_id}}
    await server.client.post("/login", json=body, token=TOKEN, expect=(403, "M_FORBIDDEN"))
    as_boss = {"user_id": boss.user_id}
    lock = f"/_matrix/client/v1/admin/lock/{boss.user_id}"
    await server.client.get(lock, token=TOKEN, params=as_boss, expect=(403, "M_FORBIDDEN"))
