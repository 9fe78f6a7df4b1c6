"""Where we decide otherwise than Synapse, on purpose: each with its sentence in docs/differences.md.

When one of these fails, Synapse has changed: then the difference, its test and its paragraph go.
"""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.events.state_resolution import resolve
from homeserver.matrix.ids import EventId
from tests.interop.oracle.client import Oracle
from tests.support.factory import ALICE, BOB, CAROL, RoomFactory, versions

pytestmark = pytest.mark.interop


class Verdicts:
    """What both say of an event in a room's present state."""

    def __init__(self, oracle: Oracle, room: RoomFactory, event: Event) -> None:
        """Ask both."""
        answer = oracle.ask(
            "rules.room",
            {
                "version": room.version.id,
                "events": {e.event_id: dict(e.fields) for e in [*room.events.values(), event]},
                "checks": [[event.event_id, list(room.state_ids.values())]],
                "resolutions": [],
            },
        )
        self.synapse: str | None = answer["checks"][0]
        self.ours: str | None = room.rejection(event)


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
@pytest.mark.parametrize("value", [None, "false", 0])
def test_only_false_keeps_a_room_from_federating(oracle: Oracle, version: str, value: Any) -> None:
    room = RoomFactory.public(version, **{"m.federate": value})
    verdicts = Verdicts(oracle, room, room.draft_member(BOB, "join"))
    assert verdicts.ours is None
    assert "unfederatable" in str(verdicts.synapse)


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
def test_only_the_sender_has_to_be_of_a_room_that_does_not_federate(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version, **{"m.federate": False})
    verdicts = Verdicts(oracle, room, room.draft_member(BOB, "invite", by=ALICE))
    assert verdicts.ours is None
    assert "unfederatable" in str(verdicts.synapse)


@pytest.mark.parametrize("version", versions(8))
def test_who_vouches_must_have_signed_whatever_the_membership(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    verdicts = Verdicts(oracle, room, room.draft_member(BOB, "leave", join_authorised_via_users_server=CAROL))
    assert verdicts.ours == "5.2.1"
    assert verdicts.synapse is None


@pytest.mark.parametrize("version", versions(1, 9))
@pytest.mark.parametrize("value", [True, "1_0", "٣"])
def test_a_level_is_an_integer_or_a_string_of_digits(oracle: Oracle, version: str, value: Any) -> None:
    room = RoomFactory(version)
    verdicts = Verdicts(oracle, room, room.draft_power_levels(users={BOB: value}))
    assert verdicts.ours == "10.3"
    assert verdicts.synapse is None


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
@pytest.mark.parametrize("user", ["@bob:", "@bob:not a server", "@" + "b" * 255 + ":two.example"])
def test_the_users_of_power_levels_are_valid_user_ids(oracle: Oracle, version: str, user: str) -> None:
    room = RoomFactory(version)
    verdicts = Verdicts(oracle, room, room.draft_power_levels(users={user: 1}))
    assert verdicts.ours == "10.3"
    assert verdicts.synapse is None


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
def test_the_rooms_power_levels_bound_power_levels_under_other_keys(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.power_levels(users={BOB: 50}, events={"m.room.power_levels": 50})
    users = room.current("m.room.power_levels").content["users"]
    event = room.draft("m.room.power_levels", {"users": {**users, BOB: 99}}, by=BOB, key="elsewhere")
    verdicts = Verdicts(oracle, room, event)
    assert verdicts.ours == "10.10"
    assert verdicts.synapse is None


@pytest.mark.parametrize("version", versions(1, 2))
def test_a_redaction_of_nothing_needs_the_level(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    verdicts = Verdicts(oracle, room, room.draft("m.room.redaction", {}, by=BOB, redacts=1))
    assert verdicts.ours == "v1 11.3"
    assert verdicts.synapse is None


@pytest.mark.parametrize("version", versions(2))
def test_an_event_rejected_by_its_state_may_still_enter_another(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version)
    left, right = room.fork(), room.fork()
    left.state_event("m.room.name", {})
    topic = right.state_event("m.room.topic", {})
    states = [left.state_ids, right.state_ids]
    ours = resolve(states, room.events, room.version, rejected={topic.event_id})
    theirs = synapse_resolves(oracle, room, [dict(state) for state in states], [topic.event_id])
    assert ours[("m.room.topic", "")] == topic.event_id
    assert ("m.room.topic", "") not in theirs


def synapse_resolves(
    oracle: Oracle, room: RoomFactory, states: list[Any], rejected: list[EventId]
) -> dict[tuple[str, str], str]:
    answer = oracle.ask(
        "rules.room",
        {
            "version": room.version.id,
            "events": {event.event_id: dict(event.fields) for event in room.events.values()},
            "rejected": rejected,
            "checks": [],
            "resolutions": [
                [[[kind, key, event_id] for (kind, key), event_id in state.items()] for state in states]
            ],
        },
    )
    return {(kind, key): event_id for kind, key, event_id in answer["resolutions"][0]}


@pytest.mark.parametrize("version", versions(2))
def test_a_rejected_auth_event_is_not_fallen_back_on_by_either(oracle: Oracle, version: str) -> None:
    room = RoomFactory.public(version)
    room.join(BOB)
    room.power_levels(users={BOB: 50})
    room.state_event("m.room.name", {}, by=BOB)
    bob = room.current("m.room.member", BOB)
    bare = room.fork()
    room.state_event("m.room.topic", {}, by=BOB)
    for side in (room, bare):
        side.state_ids = {key: e for key, e in side.state_ids.items() if e != bob.event_id}
    states = [room.state_ids, bare.state_ids]
    for rejected in ([], [bob.event_id]):
        ours = resolve(states, room.events, room.version, rejected=frozenset(rejected))
        assert ours == synapse_resolves(oracle, room, states, rejected)
        assert (("m.room.topic", "") in ours) == (not rejected)
