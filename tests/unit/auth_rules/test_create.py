"""Rule 1: m.room.create (EVT-09, EVT-10)."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.events.auth_rules import Rejected, check
from homeserver.events.event import Event
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, RoomFactory, versions


def create_event(
    version: str, *, without: str = "", content: dict[str, Any] | None = None, **fields: Any
) -> Event:
    """The create event of a default room with some of it replaced."""
    room = RoomFactory(version)
    values = {**room.create.fields, "content": {**room.create.content, **(content or {})}, **fields}
    values["content"].pop(without, None)
    return room.build(values)


def rule_of(event: Event) -> str | None:
    try:
        check(event, {}, event.room_version)
    except Rejected as rejected:
        return rejected.rule
    return None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_09_a_create_event_is_allowed(version: str) -> None:
    assert rule_of(create_event(version)) is None


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_09_a_create_event_has_no_parents(version: str) -> None:
    parent: list[Any] = ["$x"] if version not in {"1", "2"} else [["$x:one.example", {"sha256": ""}]]
    assert rule_of(create_event(version, prev_events=parent)) == "1.1"


@pytest.mark.parametrize("version", versions(1, 11))
def test_evt_09_the_room_belongs_to_the_creators_domain(version: str) -> None:
    assert rule_of(create_event(version, room_id="!room:two.example")) == "1.2"


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("named", ["13", "com.example.mine", 11, None, ["1"]])
def test_evt_09_the_room_version_must_be_known(version: str, named: object) -> None:
    assert rule_of(create_event(version, content={"room_version": named})) == "1.3"


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_evt_09_a_create_event_need_not_name_its_version(version: str) -> None:
    assert rule_of(create_event(version, without="room_version")) is None


@pytest.mark.parametrize("version", versions(1, 10))
def test_evt_09_the_creator_is_named_until_version_10(version: str) -> None:
    assert rule_of(create_event(version, without="creator")) == "v1 1.4"


@pytest.mark.parametrize("version", versions(11))
def test_evt_09_the_creator_is_the_sender_from_version_11_on(version: str) -> None:
    room = RoomFactory(version, creator=ALICE)
    assert "creator" not in room.create.content
    assert room.current("m.room.member", ALICE).membership == "join"


def test_evt_10_the_room_id_is_the_hash_of_the_create_event() -> None:
    assert rule_of(create_event("12", room_id="!room:one.example")) == "1.2"


@pytest.mark.parametrize("additional", [[], [BOB], [BOB, ALICE], ["@:one.example"]])
def test_evt_10_additional_creators_are_user_ids(additional: object) -> None:
    assert rule_of(create_event("12", content={"additional_creators": additional})) is None


@pytest.mark.parametrize(
    "additional",
    [None, BOB, {BOB: 1}, [1], [[BOB]], ["bob"], ["@bob"], ["@bob:"], ["@" + "b" * 255 + ":two.example"]],
)
def test_evt_10_additional_creators_are_nothing_else(additional: object) -> None:
    assert rule_of(create_event("12", content={"additional_creators": additional})) == "1.4"


@pytest.mark.parametrize("version", versions(1, 11))
def test_evt_10_before_version_12_additional_creators_mean_nothing(version: str) -> None:
    assert rule_of(create_event(version, content={"additional_creators": 1})) is None


def test_evt_10_an_event_belongs_to_the_room_its_id_names() -> None:
    room, other = RoomFactory.public("12"), RoomFactory.public("12", name="another")
    message = room.draft("m.room.message", {})
    assert room.rejection(message) is None
    assert room.rejection(message, other.state) == "2"
    assert room.rejection(message, {}) == "2"


def test_evt_10_nothing_stands_on_a_rejected_create_event() -> None:
    room = RoomFactory.public("12")
    assert room.auth_rejection(room.draft("m.room.message", {}), frozenset({room.create.event_id})) == "2"


@pytest.mark.parametrize("version", versions(1, 11))
def test_nothing_stands_without_a_create_event(version: str) -> None:
    room = RoomFactory.public(version)
    assert room.rejection(room.draft("m.room.message", {}), {}) == "v1 2.4"
