"""What the server says about itself: CHECKLIST API-15, DISC-01 to DISC-03, CAP-01 to CAP-05."""

from typing import Any

import pytest

from tests.support.identity import IdentityServer


@pytest.mark.parametrize("token", [None, "one that has expired"])
async def test_versions_are_listed_by_name_whoever_asks(server: IdentityServer, token: str | None) -> None:
    """API-15."""
    answer = await server.client.get("/_matrix/client/versions", token=token)
    assert {f"v1.{minor}" for minor in range(1, 20)} <= set(answer["versions"])
    assert "r0.6.1" in answer["versions"]
    assert all(value is True for value in answer["unstable_features"].values())
    assert "org.matrix.e2e_cross_signing" in answer["unstable_features"]
    # What clients look for that do not ask for a version, or ask for both.
    names = {"msc3030.stable", "msc3771", "msc3773", "msc3827.stable", "msc3916.stable"}
    names |= {"msc4222", "msc4380.stable"}
    assert {f"org.matrix.{name}" for name in names} <= set(answer["unstable_features"])


async def test_nobody_has_versions_or_features_of_their_own(server: IdentityServer) -> None:
    """API-16: an answer with a token may say more than one without; here it says the same."""
    alice = await server.register("alice")
    plain = await server.client.get("/_matrix/client/versions")
    assert await alice.get("/_matrix/client/versions") == plain


async def test_clients_are_told_where_the_server_is_only_if_it_knows(start: Any) -> None:
    """DISC-01."""
    path = "/.well-known/matrix/client"
    server = await start()
    await server.client.get(path, expect=(404, "M_NOT_FOUND"))
    known = await start(server={"public_baseurl": "https://matrix.example.com/"})
    answer = await known.client.exchange("GET", path)
    assert answer.json == {"m.homeserver": {"base_url": "https://matrix.example.com"}}
    assert answer.headers["access-control-allow-origin"] == "*"


ROLE = {"role": "m.role.admin"}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"admin_contact": "mailto:a@example.com"},
            {"contacts": [{"email_address": "a@example.com", **ROLE}]},
        ),
        ({"admin_contact": "@a:example.com"}, {"contacts": [{"matrix_id": "@a:example.com", **ROLE}]}),
        ({"support_page": "https://example.com/help"}, {"support_page": "https://example.com/help"}),
    ],
)
async def test_whom_to_ask_for_help(start: Any, section: Any, expected: Any) -> None:
    """DISC-02."""
    server = await start(server=section)
    assert await server.client.get("/.well-known/matrix/support") == expected


async def test_without_a_contact_there_is_nothing_to_tell(server: IdentityServer) -> None:
    """DISC-02."""
    await server.client.get("/.well-known/matrix/support", expect=(404, "M_NOT_FOUND"))


async def test_the_keys_of_a_policy_server_are_told_only_if_there_is_one(start: Any) -> None:
    """DISC-03."""
    path = "/.well-known/matrix/policy_server"
    nowhere = await start()
    await nowhere.client.get(path, expect=(404, "M_NOT_FOUND"))
    keys = {"ed25519": "A" * 43}
    here = await start(server={"policy_server_keys": keys})
    answer = await here.client.exchange("GET", path)
    assert answer.json == {"public_keys": keys}
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_capabilities_say_what_this_user_can_do(server: IdentityServer) -> None:
    """CAP-01 to CAP-04."""
    alice = await server.register("alice")
    found = (await alice.get("/capabilities"))["capabilities"]
    assert found["m.room_versions"]["default"] == "12"
    assert found["m.room_versions"]["available"] == {str(n): "stable" for n in range(1, 13)}
    assert found["m.change_password"] == {"enabled": True}
    assert found["m.get_login_token"] == {"enabled": True}
    assert found["m.3pid_changes"] == {"enabled": False}
    assert found["m.profile_fields"] == {"enabled": True}
    assert found["m.set_displayname"] == found["m.set_avatar_url"] == {"enabled": True}
    assert found["m.forget_forced_upon_leave"] == {"enabled": False}


async def test_capabilities_follow_the_configuration(start: Any) -> None:
    """CAP-01, CAP-04."""
    server = await start(rooms={"default_version": "10", "forget_on_leave": True})
    found = (await (await server.register("alice")).get("/capabilities"))["capabilities"]
    assert found["m.room_versions"]["default"] == "10"
    assert found["m.forget_forced_upon_leave"] == {"enabled": True}
