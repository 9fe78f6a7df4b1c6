"""Rules 2 and 3: what an event cites (EVT-07, EVT-08), and whose signatures it carries (EVT-23)."""

from __future__ import annotations

import pytest

from homeserver.events.auth_rules import required_signers
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import StateKey
from homeserver.matrix.ids import EventId
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, RoomFactory, versions

CREATE: StateKey = ("m.room.create", "")
LEVELS: StateKey = ("m.room.power_levels", "")
RULES: StateKey = ("m.room.join_rules", "")


def member(user: str) -> StateKey:
    return ("m.room.member", user)


def ids(room: RoomFactory, *keys: StateKey) -> list[EventId]:
    return [room.state_ids[key] for key in keys if key in room.state_ids]


def base(version: str) -> set[StateKey]:
    return {LEVELS} if version == "12" else {LEVELS, CREATE}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_07_a_message_cites_create_levels_and_its_sender(version: str) -> None:
    room = RoomFactory.public(version)
    assert set(auth_keys_of(room.draft("m.room.message", {}))) == base(version) | {member(ALICE)}
    assert auth_keys_of(room.create) == []


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("membership", ["join", "invite", "knock", "leave", "ban"])
def test_evt_07_a_member_event_cites_both_members_and_for_entering_the_join_rules(
    version: str, membership: str
) -> None:
    room = RoomFactory.public(version)
    expected = base(version) | {member(ALICE), member(BOB)}
    if membership in {"join", "invite", "knock"}:
        expected |= {RULES}
    assert set(auth_keys_of(room.draft_member(BOB, membership, by=ALICE))) == expected


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_07_a_redeemed_invite_cites_its_token(version: str) -> None:
    room = RoomFactory.public(version)
    invite = room.draft_member(
        BOB, "invite", by=ALICE, third_party_invite={"signed": {"token": "t", "mxid": BOB}}
    )
    assert ("m.room.third_party_invite", "t") in auth_keys_of(invite)
    joined = room.draft_member(BOB, "join", third_party_invite={"signed": {"token": "t", "mxid": BOB}})
    assert ("m.room.third_party_invite", "t") not in auth_keys_of(joined)


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("membership", ["join", "leave"])
def test_evt_07_a_restricted_join_cites_who_vouches_for_it(version: str, membership: str) -> None:
    room = RoomFactory.public(version)
    event = room.draft_member(BOB, membership, join_authorised_via_users_server=ALICE)
    cited = member(ALICE) in auth_keys_of(event)
    assert cited == (membership == "join" and version in versions(8))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_08_the_selected_events_are_allowed(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    assert room.auth_rejection(room.draft_member(BOB, "leave")) is None
    assert room.auth_rejection(room.create) is None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_08_no_two_auth_events_for_one_key(version: str) -> None:
    room = RoomFactory.public(version)
    old = room.state_ids[LEVELS]
    room.power_levels(users={BOB: 1})
    event = room.draft("m.room.message", {}, auth=[*ids(room, *sorted(base(version)), member(ALICE)), old])
    assert room.auth_rejection(event) == "3.1"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_08_no_auth_event_that_has_no_say(version: str) -> None:
    room = RoomFactory.public(version)
    topic = room.state_event("m.room.topic", {"topic": "x"})
    message = room.message()
    for stranger in (topic.event_id, message.event_id, room.state_ids[RULES]):
        event = room.draft(
            "m.room.message", {}, auth=[*ids(room, *sorted(base(version)), member(ALICE)), stranger]
        )
        assert room.auth_rejection(event) == "3.2"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_08_no_rejected_auth_event(version: str) -> None:
    room = RoomFactory.public(version)
    event = room.draft("m.room.message", {})
    assert room.auth_rejection(event, frozenset({room.state_ids[LEVELS]})) == "3.3"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_08_no_auth_event_of_another_room(version: str) -> None:
    room, other = RoomFactory.public(version), RoomFactory.public(version, creator=BOB, name="other")
    room.events.update(other.events)
    event = room.draft(
        "m.room.message", {}, auth=[*ids(room, *sorted(base(version))), other.state_ids[member(BOB)]]
    )
    assert room.auth_rejection(event) == "3.5"


@pytest.mark.parametrize("version", versions(1, 11))
def test_evt_07_the_create_event_is_required_until_version_11(version: str) -> None:
    room = RoomFactory.public(version)
    event = room.draft("m.room.message", {}, auth=ids(room, LEVELS, member(ALICE)))
    assert room.auth_rejection(event) == "v1 2.4"


def test_evt_07_the_create_event_is_forbidden_in_version_12() -> None:
    room = RoomFactory.public("12")
    event = room.draft("m.room.message", {}, auth=ids(room, CREATE, LEVELS, member(ALICE)))
    assert room.auth_rejection(event) == "3.2"


@pytest.mark.parametrize("version", versions(1, 2))
def test_evt_23_the_server_named_in_the_event_id_signs_too(version: str) -> None:
    room = RoomFactory.public(version)
    event = room.draft("m.room.message", {}, event_id="$1:two.example")
    assert required_signers(event) == {"one.example", "two.example"}


@pytest.mark.parametrize("version", versions(3))
def test_evt_23_from_version_3_on_only_the_senders_server_signs(version: str) -> None:
    room = RoomFactory.public(version)
    assert required_signers(room.draft("m.room.message", {})) == {"one.example"}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_whoever_vouches_for_a_restricted_join_signs_it(version: str) -> None:
    room = RoomFactory.public(version)
    event = room.draft_member(BOB, "join", join_authorised_via_users_server=CAROL)
    assert ("three.example" in required_signers(event)) == (version in versions(8))


def test_a_redeemed_third_party_invite_may_come_from_any_server() -> None:
    room = RoomFactory.public("11")
    assert required_signers(room.draft_member(BOB, "invite", by=ALICE, third_party_invite={})) == frozenset()
    assert required_signers(room.draft_member(BOB, "invite", by=ALICE)) == {"one.example"}
