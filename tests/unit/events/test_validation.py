"""What local users may not send."""

from typing import Any

import pytest

from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.events.validation import check_client_event
from homeserver.matrix.errors import BadJson, InvalidParam, TooLarge
from tests.support import pdus

each_version = pytest.mark.parametrize("version_id", pdus.VERSIONS)


def check(
    event_type: str, content: dict[str, Any], state_key: str | None = "", version_id: str = "12"
) -> None:
    check_client_event(event_type, state_key, content, ROOM_VERSIONS[version_id])


def refusal(
    event_type: str, content: dict[str, Any], state_key: str | None = "", version_id: str = "12"
) -> str:
    with pytest.raises(BadJson) as refused:
        check(event_type, content, state_key, version_id)
    return refused.value.error


@each_version
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"body": "x"},
        {"msgtype": "m.text"},
        {"msgtype": "m.text", "body": 5},
        {"msgtype": None, "body": ""},
    ],
)
def test_room_28_a_message_has_a_type_and_a_body(content: dict[str, Any], version_id: str) -> None:
    refusal("m.room.message", content, None, version_id)
    check("m.room.message", {"msgtype": "m.text", "body": ""}, None, version_id)
    check("org.example.message", content, None, version_id)


@each_version
@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"ban": "50"}, "content.ban"),
        ({"ban": None}, "content.ban"),
        ({"ban": True}, "content.ban"),
        ({"ban": 2**53}, "content.ban"),
        ({"users": {"@a:b": "100"}}, "content.users.@a:b"),
        ({"users": {"@a:b": 5.5}}, "content.users.@a:b"),
        ({"users": {"a": 5}}, "content.users"),
        ({"users": []}, "content.users"),
        ({"events": {"m.room.name": "50"}}, "content.events.m.room.name"),
        ({"notifications": {"room": "50"}}, "content.notifications.room"),
    ],
)
def test_room_29_power_levels_are_integers_in_every_version(
    content: dict[str, Any], path: str, version_id: str
) -> None:
    assert refusal("m.room.power_levels", content, version_id=version_id).startswith(path)


@each_version
def test_good_power_levels_pass(version_id: str) -> None:
    check("m.room.power_levels", {}, version_id=version_id)
    levels = {
        "users": {"@a:b": 100},
        "events": {"x": -1},
        "notifications": {"room": 50},
        "ban": 0,
        "other": "x",
    }
    check("m.room.power_levels", levels, version_id=version_id)


@pytest.mark.parametrize("version_id", ["5", "6", "12"])
def test_api_22_numbers_of_strict_versions(version_id: str) -> None:
    content = {"a": [1.5]}
    if version_id == "5":
        check("org.example", content, version_id=version_id)
    else:
        assert refusal("org.example", content, version_id=version_id).startswith("content.a[0]: ")


def test_api_23_type_and_state_key_have_at_most_255_bytes() -> None:
    check("t" * 255, {}, "é" * 127)
    with pytest.raises(TooLarge):
        check("t" * 256, {})
    with pytest.raises(TooLarge):
        check("t", {}, "é" * 128)
    with pytest.raises(InvalidParam):
        check("", {})


@pytest.mark.parametrize(
    ("event_type", "bad", "good"),
    [
        ("m.room.member", {"membership": "guest"}, {"membership": "join", "displayname": None}),
        ("m.room.member", {}, {"membership": "leave", "reason": "x"}),
        ("m.room.member", {"membership": "join", "displayname": 5}, {"membership": "knock"}),
        ("m.room.member", {"membership": ["join"]}, {"membership": "ban", "avatar_url": ""}),
        ("m.room.join_rules", {}, {"join_rule": "org.example.custom"}),
        ("m.room.history_visibility", {"history_visibility": 5}, {"history_visibility": "joined"}),
        ("m.room.guest_access", {}, {"guest_access": "forbidden"}),
        ("m.room.encryption", {"algorithm": None}, {"algorithm": "m.megolm.v1.aes-sha2"}),
        ("m.room.server_acl", {"allow": "*"}, {"allow": ["*"]}),
        ("m.room.server_acl", {"deny": [5]}, {}),
        ("m.room.server_acl", {"allow_ip_literals": "false"}, {"allow_ip_literals": False}),
    ],
)
def test_what_the_server_depends_on_has_its_form(
    event_type: str, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    state_key = "@alice:example.org" if event_type == "m.room.member" else ""
    assert refusal(event_type, bad, state_key).startswith("content.")
    check(event_type, good, state_key)
    check(event_type, bad, None)  # no state: means nothing


@pytest.mark.parametrize("state_key", ["", "alice", "@alice", "!alice:example.org", "@:"])
def test_a_membership_is_some_users(state_key: str) -> None:
    assert refusal("m.room.member", {"membership": "ban"}, state_key) == "state_key: not a user ID"
    check("m.room.member", {"membership": "ban"}, "@Old User:example.org")


@pytest.mark.parametrize("shortcode", ["", "two words", "ümlaut", "x" * 101, ":wave:"])
def test_room_30_shortcodes_of_image_packs_have_their_grammar(shortcode: str) -> None:
    image = {"url": "mxc://example.org/wave"}
    check("m.room.image_pack", {"images": {"wave-1_X": image}, "pack": {"usage": ["sticker"]}}, "waves")
    check("m.room.image_pack", {"images": {}})
    refused = refusal("m.room.image_pack", {"images": {"wave": image, shortcode: image}}, "waves")
    assert refused.startswith("content.images: a shortcode")
    for images in (None, [], {"wave": "mxc://example.org/wave"}, {"wave": {"url": 5}}):
        assert refusal("m.room.image_pack", {"images": images}).startswith("content.images")


@pytest.mark.parametrize("name", ["users", "events", "notifications"])
def test_more_levels_than_fit_into_an_event_are_not_looked_at(name: str) -> None:
    with pytest.raises(TooLarge, match=f"content.{name}"):
        check("m.room.power_levels", {name: {f"@{number}:b": "not a number" for number in range(11_000)}})
