"""Setting, listing and ending pushers: PUSH-15, PUSH-17, MSC3881."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

GATEWAY = "https://push.example.com/_matrix/push/v1/notify"
SET = "/pushers/set"


def pusher(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": "key",
        "app_display_name": "App",
        "device_display_name": "Phone",
        "lang": "en",
        "data": {"url": GATEWAY, "format": "event_id_only", "default_payload": {"aps": {"alert": {}}}},
        **fields,
    }


async def keys_of(user: User) -> list[str]:
    return [each["pushkey"] for each in (await user.get("/pushers"))["pushers"]]


async def test_pushers_are_set_listed_changed_and_ended(server: Server) -> None:
    """PUSH-15: the key is (app_id, pushkey) per user."""
    alice = await server.register("alice")
    assert await alice.get("/pushers") == {"pushers": []}
    await alice.post(SET, json=pusher(profile_tag="x"))
    (found,) = (await alice.get("/pushers"))["pushers"]
    assert found == {
        **pusher(profile_tag="x"),
        "enabled": True,
        "org.matrix.msc3881.enabled": True,
        "device_id": alice.device_id,
        "org.matrix.msc3881.device_id": alice.device_id,
    }
    await alice.post(SET, json=pusher(lang="de"))
    await alice.post(SET, json=pusher(app_id="org.example.other"))
    found = (await alice.get("/pushers"))["pushers"]
    assert {(each["app_id"], each["lang"]) for each in found} == {
        ("org.example.app", "de"),
        ("org.example.other", "en"),
    }
    await alice.post(SET, json={"kind": None, "app_id": "org.example.app", "pushkey": "key"})
    await alice.post(SET, json={"kind": None, "app_id": "org.example.app", "pushkey": "unknown"})
    (left,) = (await alice.get("/pushers"))["pushers"]
    assert left["app_id"] == "org.example.other"


async def test_a_key_is_one_users_unless_they_append(server: Server) -> None:
    """PUSH-15: without `append` others with the same pair lose it."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    key = {"pushkey": f"shared {alice.user_id}"}
    await alice.post(SET, json=pusher(**key))
    await bob.post(SET, json=pusher(**key, append=True))
    assert await keys_of(alice) == await keys_of(bob) == [key["pushkey"]]
    await carol.post(SET, json=pusher(**key))
    assert await keys_of(alice) == await keys_of(bob) == []
    assert await keys_of(carol) == [key["pushkey"]]


@pytest.mark.parametrize(
    ("fields", "errcode"),
    [
        ({"app_id": "x" * 65}, "M_INVALID_PARAM"),
        ({"pushkey": "ü" * 257}, "M_INVALID_PARAM"),
        ({"pushkey": "x" * 513}, "M_INVALID_PARAM"),
        ({"app_display_name": None}, "M_MISSING_PARAM"),
        ({"device_display_name": None}, "M_MISSING_PARAM"),
        ({"lang": None}, "M_MISSING_PARAM"),
        ({"data": None}, "M_MISSING_PARAM"),
        ({"data": {}}, "M_MISSING_PARAM"),
        ({"data": {"url": "http://push.example.com/_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
        ({"data": {"url": "https://push.example.com/other"}}, "M_INVALID_PARAM"),
        ({"data": {"url": "https://u:p@push.example.com/_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
        ({"data": {"url": "file:///_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
        ({"data": {"url": "https://[/_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
        ({"data": {"url": f"{GATEWAY}?{'x' * 1000}"}}, "M_INVALID_PARAM"),
        ({"data": {"url": f"{GATEWAY}?\0"}}, "M_INVALID_PARAM"),
        ({"data": {"url": f"{GATEWAY}?\ud800"}}, "M_NOT_JSON"),
        ({"data": {"url": GATEWAY, "format": "everything"}}, "M_INVALID_PARAM"),
        ({"data": {"url": GATEWAY, "x": "x" * 9000}}, "M_INVALID_PARAM"),
        ({"kind": "carrier pigeon"}, "M_INVALID_PARAM"),
        ({"kind": "email", "app_id": "m.email"}, "M_INVALID_PARAM"),
    ],
)
async def test_what_is_no_pusher_is_refused(server: Server, fields: dict[str, Any], errcode: str) -> None:
    """PUSH-15: limits of 64 characters and 512 bytes, https with the path of the specification."""
    alice = await server.register("alice")
    body = {name: value for name, value in pusher(**fields).items() if value is not None}
    await alice.post(SET, json=body, expect=(400, errcode))
    assert await keys_of(alice) == []


async def test_a_user_has_no_more_than_fifty(server: Server) -> None:
    """PUSH-15: those that are there can be set again."""
    alice = await server.register("alice")
    for number in range(50):
        await alice.post(SET, json=pusher(pushkey=f"{number}", append=True))
    await alice.post(SET, json=pusher(pushkey="51"), expect=(400, "M_INVALID_PARAM"))
    await alice.post(SET, json=pusher(pushkey="7", append=True))
    assert len(await keys_of(alice)) == 50


async def test_pushers_end_with_the_session_that_set_them(server: Server) -> None:
    """PUSH-17: logging out, deleting the device, another password."""
    alice = await server.register("alice")
    phone, tablet = await alice.login(), await alice.login()
    await alice.post(SET, json=pusher(pushkey="desk"))
    await phone.post(SET, json=pusher(pushkey="phone"))
    await tablet.post(SET, json=pusher(pushkey="tablet"))
    await phone.post("/logout")
    assert await keys_of(alice) == ["desk", "tablet"]
    await alice.post(SET, json=pusher(pushkey="tablet"))
    await tablet.post("/logout")
    assert await keys_of(alice) == ["desk", "tablet"], "it is whose session set it last"
    other = await alice.login()
    await alice.post("/logout/all")
    assert await keys_of(await other.login()) == []


async def test_a_pusher_is_switched_off_from_another_device(server: Server) -> None:
    """PUSH-15, MSC3881: under its stable and its unstable name."""
    alice = await server.register("alice")
    await alice.post(SET, json=pusher(**{"org.matrix.msc3881.enabled": False}))
    (found,) = (await alice.get("/pushers"))["pushers"]
    assert found["enabled"] is found["org.matrix.msc3881.enabled"] is False
    await alice.post(SET, json=pusher(enabled=True))
    (found,) = (await alice.get("/pushers"))["pushers"]
    assert found["enabled"] is found["org.matrix.msc3881.enabled"] is True
    assert (await server.client.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc3881"]
