"""Rule 10 (9 in versions 6-11): changes of power (EVT-18, EVT-19, EVT-21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeserver.events.auth_rules.power import can_remove, user_level
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, DAVE, RoomFactory, versions
from tests.support.vectors import vectors

SINGLE = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
INTEGERS = versions(10)
SPELLED = versions(1, 9)


def room_of_bob(version: str, **content: Any) -> RoomFactory:
    """Alice at 100, Bob at 50 and allowed to change power levels, Carol at 50, Dave at 40."""
    room = RoomFactory.public(version)
    room.join(BOB, CAROL, DAVE)
    room.power_levels(
        users={BOB: 50, CAROL: 50, DAVE: 40},
        events={"m.room.power_levels": 0, "low": 10, "high": 60},
        **content,
    )
    return room


def change(
    room: RoomFactory, by: str = BOB, users: dict[str, Any] | None = None, **content: Any
) -> str | None:
    """The rule that rejects a change of the current power levels; None as a value removes the entry."""
    current = room.current("m.room.power_levels").content
    changed = {**current, **content, "users": {**current["users"], **(users or {})}}
    for table in (changed, *(value for value in changed.values() if isinstance(value, dict))):
        for name in [name for name, value in table.items() if value is None]:
            del table[name]
    return room.rejection(room.draft_power_levels(by=by, **changed))


# --- form ---


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize(
    "users", [None, [], "x", 1, {"bob": 1}, {"@bob": 1}, {BOB: None}, {BOB: []}, {BOB: True}, {BOB: "x"}]
)
def test_evt_18_users_is_an_object_of_levels_by_user_id(version: str, users: object) -> None:
    room = RoomFactory(version)
    assert room.rejection(room.draft_power_levels(users=users)) == "10.3"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_users_may_be_missing(version: str) -> None:
    room = RoomFactory(version)
    assert room.allows(room.draft_power_levels())


@pytest.mark.parametrize("version", INTEGERS)
@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("value", ["50", 50.0, None, True, [], {}])
def test_evt_18_single_levels_are_integers_from_version_10_on(version: str, name: str, value: object) -> None:
    room = RoomFactory(version)
    assert room.rejection(room.draft_power_levels(**{name: value})) == "10.1"


@pytest.mark.parametrize("version", INTEGERS)
@pytest.mark.parametrize("name", ["events", "notifications"])
@pytest.mark.parametrize("value", [[], 1, None, {"x": "50"}, {"x": None}, {"x": True}])
def test_evt_18_tables_are_objects_of_integers_from_version_10_on(
    version: str, name: str, value: object
) -> None:
    room = RoomFactory(version)
    assert room.rejection(room.draft_power_levels(**{name: value})) == "10.2"


@pytest.mark.parametrize("version", SPELLED)
def test_evt_21_levels_that_cannot_be_read_reject_what_needs_them(version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.add(room.draft_power_levels(users={ALICE: 100}, ban="much", events={"x": []}))
    assert room.rejection(room.draft_member(BOB, "ban", by=ALICE)) == "5.6.3"
    assert room.rejection(room.draft("x", {}, by=ALICE)) == "8"
    assert room.rejection(room.draft_power_levels(by=ALICE, users={ALICE: 100}, ban=50)) == "10"
    assert not can_remove(room.state, ALICE, BOB, "ban", room.version)
    assert room.allows(room.draft("m.room.message", {}, by=ALICE))


# --- reach ---


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_the_first_power_levels_are_free(version: str) -> None:
    room = RoomFactory(version)
    others = {BOB: 2**53 - 1}
    assert room.allows(room.draft_power_levels(users=others, ban=1000, events={"x": 1000}))


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("name", SINGLE)
def test_evt_18_single_levels_move_within_the_senders_level(version: str, name: str) -> None:
    room = room_of_bob(version)
    assert change(room, **{name: 50}) is None
    assert change(room, **{name: 51}) == "10.6"
    raised = room_of_bob(version, **{name: 60} if name != "users_default" else {"users_default": 60})
    if name not in {"users_default", "state_default", "events_default"}:
        assert change(raised, **{name: 10}) == "10.6"
        assert change(raised, **{name: None}) == "10.6"
        assert change(raised, **{name: 60}) is None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_entries_of_events_move_within_the_senders_level(version: str) -> None:
    room = room_of_bob(version)
    events = room.current("m.room.power_levels").content["events"]
    assert change(room, events={**events, "low": 50}) is None
    assert change(room, events={**events, "low": 51}) == "10.8"
    assert change(room, events={**events, "low": None}) is None
    assert change(room, events={**events, "new": 51}) == "10.8"
    assert change(room, events={**events, "new": 50}) is None
    assert change(room, events={**events, "high": 40}) == "10.7"
    assert change(room, events={**events, "high": None}) == "10.7"
    assert change(room, by=ALICE, events={**events, "high": 100}) is None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_notifications_are_checked_from_version_6_on(version: str) -> None:
    room = room_of_bob(version, notifications={"room": 60})
    checked = version in versions(6)
    assert change(room, notifications={"room": 10}) == ("10.7" if checked else None)
    assert change(room, notifications={"room": None}) == ("10.7" if checked else None)
    assert change(room, notifications={"room": 60, "x": 51}) == ("10.8" if checked else None)
    assert change(room, notifications={"room": 60, "x": 50}) is None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_nobody_touches_equals_or_betters_but_themselves(version: str) -> None:
    room = room_of_bob(version)
    assert change(room, users={DAVE: 50}) is None
    assert change(room, users={DAVE: 51}) == "10.10"
    assert change(room, users={DAVE: None}) is None
    assert change(room, users={CAROL: 49}) == "10.9"
    assert change(room, users={CAROL: None}) == "10.9"
    assert change(room, users={BOB: 49}) is None
    assert change(room, users={BOB: None}) is None
    assert change(room, users={BOB: 51}) == "10.10"
    assert change(room, users={"@new:two.example": 50}) is None
    assert change(room, users={"@new:two.example": 51}) == "10.10"
    assert change(room, by=ALICE, users={BOB: 100}) is None
    if version != "12":
        assert change(room, users={ALICE: 0}) == "10.9"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_18_what_stays_may_be_out_of_reach(version: str) -> None:
    room = room_of_bob(version, ban=90, notifications={"room": 90})
    assert change(room, events_default=1) is None


# --- version 12: creators ---


def test_evt_19_creators_have_infinite_level_and_no_entry() -> None:
    room = RoomFactory("12", additional_creators=[BOB])
    for creator in (ALICE, BOB):
        assert room.rejection(room.draft_power_levels(users={creator: 100})) == "10.4"
        assert user_level(room.state, creator, room.version) > 2**53 - 1
    assert room.allows(room.draft_power_levels(users={CAROL: 2**53 - 1}))


def test_evt_19_creators_are_above_everybody_and_equal_to_each_other() -> None:
    room = RoomFactory("12", additional_creators=[BOB])
    room.join_rule("public")
    room.join(BOB, CAROL)
    room.power_levels(users={CAROL: 2**53 - 1}, ban=2**53 - 1)
    assert room.allows(room.draft_member(CAROL, "ban", by=BOB))
    assert not room.allows(room.draft_member(BOB, "ban", by=CAROL))
    assert not room.allows(room.draft_member(BOB, "ban", by=ALICE))
    assert change(room, by=BOB, users={CAROL: 0}) is None


@pytest.mark.parametrize("version", versions(1, 11))
def test_evt_19_before_version_12_creators_are_like_others(version: str) -> None:
    room = RoomFactory(version, additional_creators=[BOB])
    assert user_level(room.state, BOB, room.version) == 0
    assert room.allows(room.draft_power_levels(users={ALICE: 5}))


# --- spelling ---


@pytest.mark.parametrize("version", SPELLED)
def test_evt_21_strings_are_levels_until_version_9(version: str) -> None:
    for case in vectors("power_level_values")["strings"]:
        room = RoomFactory(version)
        room.power_levels(users={BOB: case["value"]})
        assert user_level(room.state, BOB, room.version) == case["level"]


@pytest.mark.parametrize("version", versions(1, 5))
def test_evt_21_floats_are_levels_until_version_5(version: str) -> None:
    for case in vectors("power_level_values")["floats"]:
        room = RoomFactory(version)
        room.power_levels(users={BOB: json.loads(case["value_json"])})
        assert user_level(room.state, BOB, room.version) == case["level"]


@pytest.mark.parametrize("version", versions(1, 5))
@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e999"])
@pytest.mark.parametrize("place", ["users", "ban", "events", "notifications"])
def test_evt_21_what_no_double_can_hold_is_rejected(version: str, value: str, place: str) -> None:
    number = json.loads(value)
    content = {place: number if place == "ban" else {BOB: number}}
    room = RoomFactory(version)
    event = room.draft_power_levels()
    event.fields["content"].update(content)  # type: ignore[union-attr]  # canonical JSON could not have carried it here
    assert room.rejection(event) == "10.3"


@pytest.mark.parametrize("version", SPELLED)
def test_evt_21_the_same_level_spelled_differently_is_no_change(version: str) -> None:
    room = room_of_bob(version, ban=90)
    assert change(room, ban="90", users={CAROL: " +50 "}) is None
    assert change(room, ban="91") == "10.6"
