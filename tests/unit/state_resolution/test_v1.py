"""State resolution version 1 (STATE-01)."""

from __future__ import annotations

import hashlib

from tests.support.factory import ALICE, BOB, CAROL, DAVE, RoomFactory


def sha1(event_id: str) -> str:
    return hashlib.sha1(event_id.encode()).hexdigest()


def test_state_01_an_entry_only_one_side_has_is_no_conflict() -> None:
    room = RoomFactory.public("1")
    left, right = room.fork(), room.fork()
    topic = left.state_event("m.room.topic", {"topic": "left"})
    name = right.state_event("m.room.name", {"name": "right"})
    state = left.merge(right)
    assert state[("m.room.topic", "")] == topic
    assert state[("m.room.name", "")] == name


def test_state_01_the_deepest_event_that_is_allowed_wins() -> None:
    room = RoomFactory.public("1")
    left, right = room.fork(), room.fork()
    left.state_event("m.room.topic", {"topic": "left"})
    right.message()
    deeper = right.state_event("m.room.topic", {"topic": "right"})
    assert left.merge(right)[("m.room.topic", "")] == deeper


def test_state_01_at_the_same_depth_the_lowest_hash_wins() -> None:
    room = RoomFactory.public("1")
    sides = [room.fork() for _ in range(5)]
    topics = [side.state_event("m.room.topic", {"topic": str(number)}) for number, side in enumerate(sides)]
    lowest = min(topics, key=lambda event: sha1(event.event_id))
    assert sides[0].merge(*sides[1:])[("m.room.topic", "")] == lowest


def test_state_01_what_the_resolved_members_do_not_allow_loses_however_deep() -> None:
    room = RoomFactory.public("1")
    room.join(BOB)
    room.power_levels(users={BOB: 50})
    left, right = room.fork(), room.fork()
    kept = left.state_event("m.room.topic", {"topic": "by Alice"})
    left.member(BOB, "ban", by=ALICE)
    right.message()
    right.state_event("m.room.topic", {"topic": "by Bob"}, by=BOB)
    assert left.merge(right)[("m.room.topic", "")] == kept


def test_state_01_a_line_of_power_levels_goes_up_until_one_is_not_allowed() -> None:
    room = RoomFactory.public("1")
    room.join(BOB)
    room.power_levels(users={BOB: 99})
    left, right = room.fork(), room.fork()
    left.power_levels(users={BOB: 0})
    for _ in range(3):
        right.message()
    right.power_levels(by=BOB, users={BOB: 99, CAROL: 99})
    # The lowest, Alice's, is taken as it is; after it Bob's is not allowed any more.
    assert left.merge(right)[("m.room.power_levels", "")].sender == ALICE


def test_state_01_levels_come_before_join_rules_and_these_before_members() -> None:
    room = RoomFactory.public("1")
    room.join(BOB)
    room.power_levels(users={BOB: 50})
    left, right = room.fork(), room.fork()
    left.power_levels(users={BOB: 0})
    left.join_rule("invite")
    left.member(CAROL, "invite", by=ALICE)
    right.message()
    right.message()
    right.join_rule("public", by=BOB)
    right.join(CAROL, DAVE)
    state = left.merge(right)
    assert state[("m.room.power_levels", "")].sender == ALICE
    assert (
        state[("m.room.join_rules", "")].content["join_rule"] == "invite"
    )  # Bob has no power over it any more
    assert state[("m.room.member", CAROL)].membership == "join"


def test_state_01_if_nothing_is_allowed_the_lowest_stays() -> None:
    room = RoomFactory.public("1")
    room.join(BOB)
    room.power_levels(users={BOB: 50})
    left, right, away = room.fork(), room.fork(), room.fork()
    lowest = left.state_event("m.room.topic", {"topic": "left"}, by=BOB)
    right.message()
    right.state_event("m.room.topic", {"topic": "right"}, by=BOB)
    away.member(BOB, "leave")
    left.merge(away)
    right.merge(away)
    assert left.merge(right)[("m.room.topic", "")] == lowest
