"""State resolution versions 2 and 2.1 (STATE-02 to STATE-08)."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.events.state_resolution import resolve
from homeserver.events.state_resolution.ordering import is_power_event
from homeserver.matrix.ids import EventId
from tests.support.factory import ALICE, BOB, CAROL, DAVE, START_MS, RoomFactory, versions

LEVELS = ("m.room.power_levels", "")
TOPIC = ("m.room.topic", "")
V2 = versions(2)
"""All versions whose algorithm is 2 or 2.1."""


def moderated(version: str) -> RoomFactory:
    """Alice at 100 (or creator), Bob and Carol at 50."""
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(users={BOB: 50, CAROL: 50}, events={"m.room.power_levels": 50})
    return room


def later(
    room: RoomFactory, event_type: str, content: dict[str, Any], *, by: str, at: int, key: str = ""
) -> Event:
    """Send something at a time after the start."""
    return room.send(room.draft(event_type, content, by=by, key=key, origin_server_ts=START_MS + at))


@pytest.mark.parametrize("version", V2)
def test_state_03_a_ban_undoes_what_the_banned_did_meanwhile(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    left.member(BOB, "ban", by=ALICE)
    right.state_event("m.room.topic", {"topic": "by Bob"}, by=BOB)
    right.member(DAVE, "invite", by=BOB)
    state = left.merge(right)
    assert state[("m.room.member", BOB)].membership == "ban"
    assert TOPIC not in state
    assert ("m.room.member", DAVE) not in state


@pytest.mark.parametrize("version", V2)
def test_state_03_kicks_and_bans_are_power_events_and_leaving_is_not(version: str) -> None:
    room = moderated(version)
    assert is_power_event(room.draft_member(BOB, "leave", by=ALICE))
    assert is_power_event(room.draft_member(BOB, "ban", by=ALICE))
    assert is_power_event(room.draft_power_levels())
    assert is_power_event(room.draft("m.room.join_rules", {}, key=""))
    assert not is_power_event(room.draft_member(BOB, "leave"))
    assert not is_power_event(room.draft_member(BOB, "invite", by=ALICE))
    assert not is_power_event(room.draft("m.room.topic", {}, key=""))


@pytest.mark.parametrize("version", V2)
def test_state_03_what_authorises_a_power_event_is_tried_before_it(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    left.state_event("m.room.topic", {"topic": "x"})
    right.join(DAVE)
    right.power_levels(users={BOB: 50, CAROL: 50, DAVE: 75})
    right.member(CAROL, "ban", by=DAVE)  # rests on Dave's join and on his level, all of them conflicted
    state = left.merge(right)
    assert state[("m.room.member", DAVE)].membership == "join"
    assert state[("m.room.member", CAROL)].membership == "ban"


@pytest.mark.parametrize("version", V2)
def test_state_04_the_greater_power_speaks_first(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    later(left, "m.room.join_rules", {"join_rule": "invite"}, by=ALICE, at=1000)
    kicked = left.member(BOB, "leave", by=ALICE)
    later(right, "m.room.join_rules", {"join_rule": "knock"}, by=BOB, at=1)  # earlier, by a lesser power
    state = left.merge(right)
    assert state[("m.room.member", BOB)] == kicked
    assert state[("m.room.join_rules", "")].sender == ALICE


@pytest.mark.parametrize("version", V2)
def test_state_04_among_equals_the_later_time_then_the_greater_id_stays(version: str) -> None:
    room = moderated(version)
    for first, second in ((1, 2), (2, 1), (3, 3)):
        left, right = room.fork(), room.fork()
        one = later(left, "m.room.join_rules", {"join_rule": "invite"}, by=BOB, at=first)
        two = later(right, "m.room.join_rules", {"join_rule": "knock"}, by=CAROL, at=second)
        last = max((one, two), key=lambda event: (event.origin_server_ts, event.event_id))
        assert left.merge(right)[("m.room.join_rules", "")] == last


@pytest.mark.parametrize("version", V2)
def test_state_04_power_is_read_from_each_events_own_auth_events(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    # Bob rises on the left and uses it; Carol acts on the right with the level she has there.
    left.power_levels(users={BOB: 75, CAROL: 50}, events={"m.room.power_levels": 50})
    mine = later(left, "m.room.join_rules", {"join_rule": "invite"}, by=BOB, at=9)
    last = later(right, "m.room.join_rules", {"join_rule": "knock"}, by=CAROL, at=1)
    # Bob's 75 makes his the first although it is the later; what is tried last stays.
    assert left.merge(right)[("m.room.join_rules", "")] == last
    assert mine.sender == BOB


@pytest.mark.parametrize("version", V2)
def test_state_05_what_rests_on_newer_power_levels_comes_later(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    later(left, "m.room.topic", {"topic": "old levels, late clock"}, by=ALICE, at=1000)
    right.power_levels(users={BOB: 50, CAROL: 51}, events={"m.room.power_levels": 50})
    newer = later(right, "m.room.topic", {"topic": "new levels, early clock"}, by=ALICE, at=1)
    assert left.merge(right)[TOPIC] == newer


@pytest.mark.parametrize("version", V2)
def test_state_05_on_the_same_levels_the_later_time_then_the_greater_id_stays(version: str) -> None:
    room = moderated(version)
    for first, second in ((1, 2), (2, 1), (3, 3)):
        left, right = room.fork(), room.fork()
        one = later(left, "m.room.topic", {"topic": "one"}, by=BOB, at=first)
        two = later(right, "m.room.topic", {"topic": "two"}, by=CAROL, at=second)
        last = max((one, two), key=lambda event: (event.origin_server_ts, event.event_id))
        assert left.merge(right)[TOPIC] == last


@pytest.mark.parametrize("version", V2)
def test_state_05_what_both_sides_agree_on_has_the_last_word(version: str) -> None:
    room = moderated(version)
    topic = room.state_event("m.room.topic", {"topic": "agreed"})
    left, right = room.fork(), room.fork()
    left.power_levels(users={BOB: 0})
    right.member(CAROL, "ban", by=ALICE)
    assert left.merge(right)[TOPIC] == topic


@pytest.mark.parametrize("version", V2)
def test_state_02_an_event_of_the_auth_difference_returns_to_the_state(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    # On the right Bob is kicked and comes back: the kick is in no state, only in the auth chain of the join.
    kick = right.member(BOB, "leave", by=ALICE)
    right.join(BOB)
    topic = left.state_event("m.room.topic", {"topic": "by Bob"}, by=BOB)
    state = left.merge(right)
    # It is tried with the power events, so that what Bob did before his return falls under it.
    assert kick.event_id not in {event.event_id for event in state.values()}
    assert state[("m.room.member", BOB)].membership == "join"
    assert state[TOPIC] == topic


@pytest.mark.parametrize("version", V2)
def test_state_06_what_the_state_lacks_is_taken_from_the_events_own_auth_events(version: str) -> None:
    room = moderated(version)
    room.state_event("m.room.name", {"name": "by Bob"}, by=BOB)  # so that Bob's join is in every auth chain
    # Two states that, as states from elsewhere may, lack Bob's membership; only one has his topic.
    del room.state_ids[("m.room.member", BOB)]
    bare = room.fork()
    member = next(event for event in room.events.values() if event.key == ("m.room.member", BOB))
    topic = room.draft(
        "m.room.topic", {"topic": "x"}, by=BOB, key="", auth=[*create_and_levels(room), member.event_id]
    )
    room.add(topic)
    states = [room.state_ids, bare.state_ids]
    assert resolve(states, room.events, room.version)[TOPIC] == topic.event_id
    # … unless that auth event was rejected.
    assert TOPIC not in resolve(states, room.events, room.version, rejected={member.event_id})


def create_and_levels(room: RoomFactory) -> list[EventId]:
    """What every event cites: the create event, where it is cited, and the power levels."""
    keys = [LEVELS] if room.version.room_id_is_create_hash else [("m.room.create", ""), LEVELS]
    return [room.state_ids[key] for key in keys]


def lost_power_levels(version: str) -> tuple[RoomFactory, dict[Any, Event]]:
    """Alice changes the levels on two sides and has left on both by the time they meet."""
    room = moderated(version)
    left, right, away = room.fork(), room.fork(), room.fork()
    left.power_levels(users={BOB: 60, CAROL: 50})
    right.power_levels(users={BOB: 70, CAROL: 50})
    away.member(ALICE, "leave")
    left.merge(away)
    right.merge(away)
    return room, left.merge(right)


@pytest.mark.parametrize("version", versions(2, 11))
def test_state_07_version_2_starts_from_what_is_agreed_and_so_loses_the_levels(version: str) -> None:
    _, state = lost_power_levels(version)
    assert LEVELS not in state


def test_state_07_version_2_1_starts_from_nothing_and_keeps_them() -> None:
    _, state = lost_power_levels("12")
    assert state[LEVELS].sender == ALICE
    assert state[("m.room.member", ALICE)].membership == "leave"


@pytest.mark.parametrize("version", V2)
def test_state_08_an_event_that_was_rejected_by_its_state_still_takes_part(version: str) -> None:
    room = moderated(version)
    left, right = room.fork(), room.fork()
    left.state_event("m.room.name", {"name": "x"})
    topic = right.state_event("m.room.topic", {"topic": "x"}, by=BOB)
    state = resolve([left.state_ids, right.state_ids], room.events, room.version, rejected={topic.event_id})
    assert state[TOPIC] == topic.event_id


@pytest.mark.parametrize("version", V2)
def test_one_state_or_equal_states_need_nothing(version: str) -> None:
    room = moderated(version)
    assert resolve([room.state_ids], {}, room.version) == room.state_ids
    assert resolve([room.state_ids, dict(room.state_ids)], {}, room.version) == room.state_ids
