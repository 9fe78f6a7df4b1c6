"""Which state authorises an event: EVT-07."""

from typing import Any

import pytest

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.room_version import ROOM_VERSIONS
from tests.support import pdus

ALICE, BOB = "@alice:x", "@bob:x"
LEVELS, RULES = ("m.room.power_levels", ""), ("m.room.join_rules", "")


def member(user: str) -> tuple[str, str]:
    return ("m.room.member", user)


def keys(
    kind: str, state_key: str | None, content: dict[str, Any], version_id: str = "12"
) -> set[tuple[str, str]]:
    found = auth_keys_for(kind, state_key, ALICE, content, ROOM_VERSIONS[version_id])
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_evt_07_every_event_cites_levels_and_its_sender_and_before_version_12_the_create_event(
    version_id: str,
) -> None:
    create = set() if version_id == "12" else {("m.room.create", "")}
    for kind, state_key in (("m.room.message", None), ("m.room.topic", ""), ("m.room.power_levels", "")):
        assert keys(kind, state_key, {}, version_id) == {LEVELS, member(ALICE), *create}
    assert keys("m.room.create", "", {"membership": "join"}, version_id) == set()


@pytest.mark.parametrize(
    ("membership", "more"),
    [
        ("join", {RULES}),
        ("invite", {RULES}),
        ("knock", {RULES}),
        ("leave", set()),
        ("ban", set()),
        (5, set()),
        ([], set()),
    ],
)
def test_evt_07_a_member_event_cites_its_target_and_where_they_matter_the_join_rules(
    membership: Any, more: set[Any]
) -> None:
    assert keys("m.room.member", BOB, {"membership": membership}) == {
        LEVELS,
        member(ALICE),
        member(BOB),
        *more,
    }
    assert keys("m.room.member", ALICE, {"membership": membership}) == {LEVELS, member(ALICE), *more}


def test_evt_07_an_invite_by_third_party_cites_its_token() -> None:
    content = {"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}}
    token = ("m.room.third_party_invite", "t")
    assert token in keys("m.room.member", BOB, content)
    assert token not in keys("m.room.member", BOB, {**content, "membership": "join"})
    for invite in (None, "x", {}, {"signed": 5}, {"signed": {}}, {"signed": {"token": 5}}):
        found = keys("m.room.member", BOB, {"membership": "invite", "third_party_invite": invite})
        assert found == {LEVELS, RULES, member(ALICE), member(BOB)}


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_evt_07_a_restricted_join_cites_who_authorises_it(version_id: str) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": "@carol:y"}
    restricted = ROOM_VERSIONS[version_id].restricted_join
    assert (member("@carol:y") in keys("m.room.member", ALICE, content, version_id)) == restricted
    assert member("@carol:y") not in keys(
        "m.room.member", ALICE, {**content, "membership": "leave"}, version_id
    )
    keys("m.room.member", ALICE, {**content, "join_authorised_via_users_server": 5}, version_id)


def test_what_is_no_state_has_no_target() -> None:
    assert keys("m.room.member", None, {"membership": "leave"}) == {LEVELS, member(ALICE)}
