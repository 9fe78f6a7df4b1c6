"""The rules that concern every event: federation, aliases, membership, levels, state keys, redactions (EVT-11 to EVT-24)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from homeserver.events.auth_rules.power import notification_level, user_level
from homeserver.events.auth_rules.redaction import may_apply
from homeserver.events.room_version import DEFAULT_ROOM_VERSION, ROOM_VERSIONS, RoomVersion
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, RoomFactory, versions
from tests.support.vectors import vectors

LOCAL = "@local:one.example"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_11_a_room_that_does_not_federate_rejects_other_servers(version: str) -> None:
    room = RoomFactory.public(version, **{"m.federate": False})
    assert room.rejection(room.draft_member(BOB, "join")) == "4"
    assert room.allows(room.draft_member(LOCAL, "join"))
    assert room.allows(room.draft_member(BOB, "invite", by=ALICE))


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("value", [True, None, 0, "false", []])
def test_evt_11_only_false_keeps_a_room_from_federating(version: str, value: object) -> None:
    room = RoomFactory.public(version, **{"m.federate": value})
    assert room.allows(room.draft_member(BOB, "join"))


@pytest.mark.parametrize("version", versions(1, 10))
def test_evt_11_the_senders_domain_counts_not_the_content(version: str) -> None:
    room = RoomFactory(version, **{"m.federate": False})
    create = room.add(room.build({**room.create.fields, "content": {**room.create.content, "creator": BOB}}))
    assert room.rejection(room.draft_member(BOB, "join"), {("m.room.create", ""): create}) == "4"


@pytest.mark.parametrize("version", versions(1, 5))
def test_evt_12_until_version_5_a_server_publishes_its_own_aliases(version: str) -> None:
    room = RoomFactory.public(version)
    content = {"aliases": ["#x:two.example"]}
    assert room.allows(
        room.draft("m.room.aliases", content, by=BOB, key="two.example")
    )  # Bob is not even a member
    assert room.rejection(room.draft("m.room.aliases", content, by=BOB, key="one.example")) == "v1 4.2"
    assert room.rejection(room.draft("m.room.aliases", content, by=BOB, key="")) == "v1 4.2"
    assert room.rejection(room.draft("m.room.aliases", content, by=BOB)) == "v1 4.1"


@pytest.mark.parametrize("version", versions(6))
def test_evt_12_from_version_6_on_aliases_are_like_any_state(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.rejection(room.draft("m.room.aliases", {}, by=BOB, key="two.example")) == "6"
    room.join(BOB)
    assert room.rejection(room.draft("m.room.aliases", {}, by=BOB, key="two.example")) == "8"
    assert room.allows(room.draft("m.room.aliases", {}, by=ALICE, key="two.example"))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_17_only_members_send(version: str) -> None:
    room = RoomFactory.public(version)
    message = {"by": BOB, "event_type": "m.room.message", "content": {}}
    assert room.rejection(room.draft(**message)) == "6"
    room.member(BOB, "invite", by=ALICE)
    assert room.rejection(room.draft(**message)) == "6"
    room.join(BOB)
    assert room.allows(room.draft(**message))
    room.member(BOB, "ban", by=ALICE)
    assert room.rejection(room.draft(**message)) == "6"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_17_third_party_invites_go_by_the_invite_level_alone(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(invite=10, users={BOB: 10, CAROL: 9}, events={"m.room.third_party_invite": 100})
    assert room.allows(room.draft("m.room.third_party_invite", {}, by=BOB, key="t"))
    assert room.rejection(room.draft("m.room.third_party_invite", {}, by=CAROL, key="t")) == "7.1"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_17_the_types_level_decides(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.power_levels(users={BOB: 10}, events={"a": 10, "b": 11}, events_default=5, state_default=20)
    assert room.allows(room.draft("a", {}, by=BOB))
    assert room.allows(room.draft("a", {}, by=BOB, key=""))
    assert room.rejection(room.draft("b", {}, by=BOB)) == "8"
    assert room.allows(room.draft("m.room.message", {}, by=BOB))
    assert room.rejection(room.draft("m.room.topic", {}, by=BOB, key="")) == "8"
    room.power_levels(users={BOB: 4}, events_default=5)
    assert room.rejection(room.draft("m.room.message", {}, by=BOB)) == "8"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_17_a_state_key_that_is_a_user_belongs_to_that_user(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.allows(room.draft("x", {}, by=ALICE, key=ALICE))
    assert room.rejection(room.draft("x", {}, by=ALICE, key=BOB)) == "9"
    assert room.rejection(room.draft("x", {}, by=ALICE, key="@")) == "9"
    assert room.allows(room.draft("x", {}, by=ALICE, key="_" + BOB))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_20_without_power_levels_the_defaults_hold(version: str) -> None:
    room = RoomFactory(version)
    room.join_rule("public")
    room.join(BOB)
    assert user_level(room.state, ALICE, room.version) == (100 if version != "12" else 2**53)
    assert user_level(room.state, BOB, room.version) == 0
    assert notification_level(room.state, "room", room.version) == 50
    assert room.allows(room.draft("m.room.message", {}, by=BOB))
    assert room.allows(room.draft_member(CAROL, "invite", by=BOB))
    assert room.rejection(room.draft("m.room.topic", {}, by=BOB, key="")) == "8"
    assert room.rejection(room.draft_member(CAROL, "ban", by=BOB)) == "5.6.3"
    assert room.rejection(room.draft_member(CAROL, "leave", by=BOB)) == "5.5.5"
    assert room.allows(room.draft("m.room.topic", {}, by=ALICE, key=""))
    assert room.allows(room.draft_member(BOB, "ban", by=ALICE))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_20_an_empty_power_levels_event_leaves_the_creator_nothing_before_version_12(
    version: str,
) -> None:
    room = RoomFactory(version)
    room.send(room.draft_power_levels())
    assert user_level(room.state, ALICE, room.version) == (0 if version != "12" else 2**53)
    assert room.allows(room.draft("m.room.topic", {}, key="")) == (version == "12")


@pytest.mark.parametrize("version", versions(1, 2))
def test_evt_22_until_version_2_a_redaction_is_authorised(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    mine, theirs = "$1:two.example", "$1:three.example"
    assert room.allows(room.draft("m.room.redaction", {}, by=ALICE, redacts=theirs))
    assert room.allows(room.draft("m.room.redaction", {}, by=BOB, redacts=mine, event_id="$2:two.example"))
    assert room.rejection(room.draft("m.room.redaction", {}, by=BOB, redacts=theirs)) == "v1 11.3"
    assert room.rejection(room.draft("m.room.redaction", {}, by=BOB)) == "v1 11.3"


@pytest.mark.parametrize("version", versions(3))
def test_evt_22_from_version_3_on_redactions_are_authorised_like_messages(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    assert room.allows(room.draft("m.room.redaction", {}, by=BOB, redacts="$x"))


@pytest.mark.parametrize("version", versions(3))
def test_red_02_a_redaction_is_applied_by_level_or_by_the_targets_server(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL, "@dan:two.example")
    target = room.message(by=BOB)
    by_same_server = room.draft("m.room.redaction", {}, by="@dan:two.example")
    by_stranger, by_moderator = (
        room.draft("m.room.redaction", {}, by=CAROL),
        room.draft("m.room.redaction", {}, by=ALICE),
    )
    assert may_apply(by_same_server, target, room.state, room.version)
    assert may_apply(by_moderator, target, room.state, room.version)
    assert not may_apply(by_stranger, target, room.state, room.version)
    elsewhere = RoomFactory.public(version, creator=BOB).message()
    assert not may_apply(by_moderator, elsewhere, room.state, room.version)


@pytest.mark.parametrize("version", versions(3))
def test_red_03_the_redact_level_suffices_without_the_level_of_the_type(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(users={CAROL: 50}, events={"m.room.redaction": 60})
    assert may_apply(
        room.draft("m.room.redaction", {}, by=CAROL), room.message(by=BOB), room.state, room.version
    )


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("user", ["@:two.example", "@Ünï¢ode \U0001f600:two.example", "@A B!/?:two.example"])
def test_evt_24_historical_user_ids_take_part(version: str, user: str) -> None:
    room = RoomFactory.public(version)
    room.join(user)
    room.power_levels(users={user: 50})
    assert room.allows(room.draft("m.room.topic", {}, by=user, key=""))


# --- room versions ---

FEATURES = {
    "strict_canonical_json": "strict_canonical_json",
    "signing_key_validity_enforced": "enforce_key_validity",
    "aliases_special_auth_rule": "aliases_auth_rule",
    "redaction_auth_rule": "redaction_auth_rule",
    "notifications_levels_checked": "check_notification_levels",
    "string_power_levels_accepted": "string_power_levels",
    "float_power_levels_accepted": "float_power_levels",
    "creator_field_required": "creator_in_content",
    "knock_join_rule": "knock",
    "restricted_join_rule": "restricted_join",
    "knock_restricted_join_rule": "knock_restricted_join",
    "additional_creators_infinite_power": "privileged_creators",
}
"""A feature of the specification's table, and our flag."""


@pytest.mark.parametrize(("feature", "flag"), FEATURES.items())
def test_room_versions_have_the_features_of_the_specifications_table(feature: str, flag: str) -> None:
    assert flag in {field.name for field in fields(RoomVersion)}
    assert [v.id for v in ROOM_VERSIONS.values() if getattr(v, flag)] == vectors("room_versions")["features"][
        feature
    ]


def test_the_default_room_version_is_the_specifications() -> None:
    features = vectors("room_versions")["features"]
    assert DEFAULT_ROOM_VERSION.id == features["default_for_new_rooms"]
    assert list(ROOM_VERSIONS) == features["stable"]


def test_each_room_version_resolves_state_as_the_table_says() -> None:
    algorithms = vectors("room_versions")["features"]["state_resolution"]
    for numbers, algorithm in algorithms.items():
        first, _, last = numbers.partition("-")
        for version in versions(int(first), int(last or first)):
            assert ROOM_VERSIONS[version].state_resolution.value == algorithm
