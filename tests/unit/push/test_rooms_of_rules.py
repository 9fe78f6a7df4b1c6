"""Which rules a room has: looking for them costs little, whatever patterns of room ids there are."""

import time

from homeserver.matrix.ids import RoomId
from homeserver.push.evaluator import Evaluator, make_evaluator
from homeserver.push.past_rules import RulesOverTime

TRIES = 5
AT_MOST = 0.01
"""Seconds of CPU; without a bound some tenths of a second."""


def muted(*patterns: str) -> Evaluator:
    """By a rule for each pattern of room ids."""
    return make_evaluator(
        {
            "override": [
                {
                    "rule_id": f"r{number}",
                    "enabled": True,
                    "default": False,
                    "actions": [],
                    "conditions": [{"kind": "event_match", "key": "room_id", "pattern": pattern}],
                }
                for number, pattern in enumerate(patterns)
            ]
        }
    )


def test_patterns_of_rooms_have_a_budget() -> None:
    """PUSH-05"""
    evaluator, spent = muted(*(f"{'a*' * 500}{number}" for number in range(200))), []
    for number in range(TRIES):
        began = time.thread_time()
        evaluator.in_room(RoomId(f"!{number}:one.example"))
        spent.append(time.thread_time() - began)
    assert min(spent) < AT_MOST


async def test_rules_of_many_rooms_are_those_of_each() -> None:
    """PUSH-05"""
    rules = RulesOverTime(muted("!a*:one.example", "!b:*", "!c:one.example"), [(7, muted("!*"))])
    names = {number: RoomId(f"!{name}:one.example") for number, name in enumerate(["a1", "b", "c", "d"])}
    assert rules.current.tries_rooms
    found = await rules.in_rooms(names, dict.fromkeys(names, 3))
    for nid, room_id in names.items():
        alone = rules.in_room(room_id, 3)
        assert found[nid].current.steps == alone.current.steps
        assert [(upto, each.steps) for upto, each in found[nid].past] == [
            (upto, each.steps) for upto, each in alone.past
        ]
    assert [len(found[nid].past) for nid in names] == [1] * 4
