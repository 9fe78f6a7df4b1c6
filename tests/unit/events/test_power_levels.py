"""Reading power levels as each version spells them."""

import json
from typing import Any

import pytest

from homeserver.events.content.power_levels import (
    DEFAULTS,
    INFINITE_LEVEL,
    BadLevel,
    PowerLevels,
    parse_level,
)
from homeserver.events.room_version import ROOM_VERSIONS
from tests.support import pdus
from tests.support.cpu import least_cpu
from tests.support.vectors import vectors

ALICE, BOB = "@alice:x", "@bob:x"
each_version = pytest.mark.parametrize("version_id", pdus.VERSIONS)


def read(content: dict[str, Any] | None, version_id: str = "12", *creators: str) -> PowerLevels:
    return PowerLevels.from_content(content, ROOM_VERSIONS[version_id], creators=frozenset(creators))


@each_version
def test_evt_21_strings_in_the_vectors(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    for case in vectors("power_level_values")["strings"]:
        expected = case["level"] if int(version_id) <= 9 else None
        assert parse_level(case["value"], version) == expected


@each_version
def test_evt_21_floats_in_the_vectors(version_id: str) -> None:
    version = ROOM_VERSIONS[version_id]
    for case in vectors("power_level_values")["floats"]:
        expected = case["level"] if int(version_id) <= 5 else None
        assert parse_level(json.loads(case["value_json"]), version) == expected
    for name in vectors("power_level_values")["rejected_floats"]:
        assert parse_level(float(name), version) is None


@each_version
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "+",
        "1.0",
        "1e2",
        "0x10",
        "1_000",
        "+-1",
        "- 1",
        "1 0",
        "\u0661",
        "9" * 5000,
        True,
        None,
        [],
        {},
        [1],
    ],
)
def test_evt_21_what_is_no_level_in_any_version(value: Any, version_id: str) -> None:
    assert parse_level(value, ROOM_VERSIONS[version_id]) is None


def test_evt_21_any_number_of_leading_zeros() -> None:
    assert parse_level("-" + "0" * 50_000 + "7", ROOM_VERSIONS["9"]) == -7


@each_version
def test_evt_20_defaults(version_id: str) -> None:
    for levels in (read(None, version_id), read({}, version_id)):
        assert {name: levels.named(name) for name in DEFAULTS} == {
            "ban": 50,
            "kick": 50,
            "redact": 50,
            "state_default": 50,
            "invite": 0,
            "events_default": 0,
            "users_default": 0,
        }
        assert (levels.ban, levels.kick, levels.redact, levels.invite) == (50, 50, 50, 0)
        assert levels.notification_level("room") == 50
        assert levels.event_level("m.room.topic", state=True) == 50
        assert levels.event_level("m.room.message", state=False) == 0
        assert levels.user_level(BOB) == 0


@each_version
def test_evt_20_evt_19_the_creator(version_id: str) -> None:
    """EVT-20, EVT-19: 100 as long as there is no event; in version 12 above everything, whatever it says."""
    is_12 = version_id == "12"
    assert read(None, version_id, ALICE).user_level(ALICE) == (INFINITE_LEVEL if is_12 else 100)
    assert read({"users": {ALICE: 5}}, version_id, ALICE).user_level(ALICE) == (
        INFINITE_LEVEL if is_12 else 5
    )
    assert read({}, version_id, ALICE).user_level(ALICE) == (INFINITE_LEVEL if is_12 else 0)
    assert read(None, version_id, ALICE).user_level(BOB) == 0


def test_levels_of_users_events_and_notifications() -> None:
    levels = read(
        {
            "users": {ALICE: 70},
            "users_default": 5,
            "events": {"m.room.topic": 20},
            "events_default": 1,
            "state_default": 40,
            "notifications": {"room": 30},
        }
    )
    assert (levels.user_level(ALICE), levels.user_level(BOB)) == (70, 5)
    assert (
        levels.event_level("m.room.topic", state=True)
        == levels.event_level("m.room.topic", state=False)
        == 20
    )
    assert (levels.event_level("x", state=True), levels.event_level("x", state=False)) == (40, 1)
    assert (levels.notification_level("room"), levels.notification_level("other")) == (30, 50)
    assert dict(levels.table("users")) == {ALICE: 70}


def test_evt_19_no_event_can_grant_the_level_of_a_creator() -> None:
    assert INFINITE_LEVEL > 2**53 - 1


def test_only_what_is_asked_for_has_to_be_right() -> None:
    levels = read({"ban": "x", "users": {ALICE: 5, BOB: "x"}, "events": 5}, "9")
    assert levels.user_level(ALICE) == 5
    for question, path in (
        (lambda: levels.ban, "ban"),
        (lambda: levels.user_level(BOB), f"users.{BOB}"),
        (lambda: levels.event_level("x", state=True), "events"),
        (lambda: list(levels.table("users")), f"users.{BOB}"),
    ):
        with pytest.raises(BadLevel) as problem:
            question()
        assert problem.value.path == path


def test_null_is_absent() -> None:
    levels = read({"users": None, "ban": None, "events": {"x": None}}, "9")
    assert (levels.user_level(ALICE), levels.ban, levels.event_level("x", state=True)) == (0, 50, 50)


def test_evt_20_leading_zeros_are_read_once_each() -> None:
    """EVT-20: a level of 60 000 zeros that ends in no digit took seconds."""

    def read_all() -> None:
        assert parse_level("0" * 60_000 + "x", ROOM_VERSIONS["9"]) is None
        assert parse_level("-" + "0" * 60_000 + "7", ROOM_VERSIONS["9"]) == -7
        assert parse_level("9" * 5_000, ROOM_VERSIONS["9"]) is None
        assert parse_level("0" * 60_000, ROOM_VERSIONS["9"]) == 0

    assert least_cpu(read_all) < 0.2
