"""What lists and subscriptions match, and what of each room is wanted then (MSC4186, "Combining room configs")."""

import asyncio
from collections.abc import Mapping
from itertools import combinations
from random import Random
from typing import Any

import msgspec

from homeserver.graph.refs import JOIN
from homeserver.rooms.memberships import Membership
from homeserver.sync.sliding.facts import Facts
from homeserver.sync.sliding.ports import Labels
from homeserver.sync.sliding.request import MAX_LISTS, SlidingRequest, check
from homeserver.sync.sliding.required_state import RequiredState, required
from homeserver.sync.sliding.windows import LOOKS_AT_ONCE, MAX_COMBINED, Material, Windows, match, rules_of

ME = "@me:x"


def facts(number: int) -> Facts:
    found = Facts(number, {})
    found.folded = (number, f"the room number {number}")
    return found


def material(rooms: int) -> Material:
    """`rooms` rooms, numbered from 0; the one with the highest number comes first."""
    numbers = range(rooms)
    return Material(
        rooms={nid: Membership(JOIN, nid, forgotten=False) for nid in numbers},
        facts={nid: facts(nid) for nid in numbers},
        labels=Labels(
            frozenset(f"!{nid}:x" for nid in numbers if nid % 2),
            {nid: frozenset({"m.favourite"}) for nid in numbers if nid % 3 == 0},
        ),
        ids={nid: f"!{nid}:x" for nid in numbers},
        removed=frozenset(),
        spaces={},
    )


async def matched(body: Mapping[str, Any], rooms: Material) -> Windows:
    request = msgspec.convert(body, SlidingRequest)
    check(request)
    return await match(request, rooms, rules_of(request, ME, 100))


async def test_a_room_is_wanted_as_all_that_match_it_want_it() -> None:
    pairs = {name: [[f"type.{name}", ""]] for name in "abc"}
    body = {
        "lists": {
            "a": {"ranges": [[0, 3]], "required_state": pairs["a"], "timeline_limit": 1},
            "b": {"ranges": [[2, 5]], "required_state": pairs["b"], "timeline_limit": 5},
        },
        "room_subscriptions": {"!9:x": {"required_state": pairs["c"], "timeline_limit": 3}},
    }
    found = await matched(body, material(10))
    wanted = {
        nid: (rule.limit, {kind for kind, _ in rule.required.exact}) for nid, rule in found.rules.items()
    }
    assert wanted == {
        9: (3, {"type.a", "type.c"}),
        8: (1, {"type.a"}),
        7: (5, {"type.a", "type.b"}),
        6: (5, {"type.a", "type.b"}),
        5: (5, {"type.b"}),
        4: (5, {"type.b"}),
    }


async def test_filters_are_each_to_be_passed() -> None:
    filters = [
        ({"is_dm": True}, lambda nid: nid % 2 == 1),
        ({"tags": ["m.favourite", "x"]}, lambda nid: nid % 3 == 0),
        ({"not_tags": ["m.favourite"]}, lambda nid: nid % 3 != 0),
        ({"room_name_like": "NUMBER 1"}, lambda nid: str(nid).startswith("1")),
        ({"room_types": ["m.space"]}, lambda _: False),
        ({"not_room_types": ["m.space"]}, lambda _: True),
    ]
    rooms = material(40)
    for (one, fits), (other, fits_too) in combinations(filters, 2):
        found = await matched({"lists": {"x": {"filters": {**one, **other}}}}, rooms)
        assert set(found.rules) == {nid for nid in range(40) if fits(nid) and fits_too(nid)}
        assert found.counts == {"x": len(found.rules)}


async def test_what_combining_makes_is_bounded() -> None:
    """Of any number of lists each of which has rooms and state of its own; what a list wants is not lost by it."""
    chance, rooms = Random(1), 1_000  # reproducible
    starts = {name: [chance.randrange(rooms) for _ in range(20)] for name in map(str, range(MAX_LISTS))}
    lists = {
        name: {
            "ranges": [[start, start + 24] for start in each],
            "required_state": [[f"type.{name}.{number}", ""] for number in range(50)],
        }
        for name, each in starts.items()
    }
    found = await matched({"lists": lists}, material(rooms))
    sets: dict[RequiredState, int] = {rule.required: rule.required.size for rule in found.rules.values()}
    assert sum(sets.values()) < MAX_COMBINED + 4 * MAX_LISTS * 50
    for name, inside in found.lists.items():
        for nid in inside:
            assert found.asked.lists[name].required.exact <= found.rules[nid].required.exact


async def test_others_have_a_turn_while_many_lists_of_many_rooms_are_filtered() -> None:
    filters = {"is_encrypted": False, "room_name_like": "number", "not_tags": ["x"]}
    rooms, turns = material(4_000), 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    try:
        lists = {str(number): {"ranges": [[0, 9]], "filters": filters} for number in range(MAX_LISTS)}
        found = await matched({"lists": lists}, rooms)
    finally:
        task.cancel()
    assert set(found.counts.values()) == {4_000}
    assert turns >= 4_000 * MAX_LISTS * 4 // LOOKS_AT_ONCE


def test_of_many_keys_those_that_a_room_has_are_chosen() -> None:
    state = {("a", "1"): 1, ("b", "2"): 2, ("m.room.member", ME): 3, ("c", "$ME"): 4}
    few, many = [("a", "1"), ("m.room.member", "$ME")], [(f"t{number}", "") for number in range(20)]
    for pairs in (few, [*few, *many]):
        assert required(pairs, ME).choose(state, ()) == {("a", "1"): 1, ("m.room.member", ME): 3}
    assert required([*many, ("b", "*")], ME).choose(state, ()) == {("b", "2"): 2}
