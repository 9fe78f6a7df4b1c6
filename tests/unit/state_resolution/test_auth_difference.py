"""Auth difference and conflicted state subgraph, by walking and by chain cover (STATE-02, STATE-07)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from homeserver.events.event import Event
from homeserver.events.state_resolution.chain_cover import MAX_LINKS, Link, Place, place_event
from homeserver.events.state_resolution.pool import NeedsAuthDifference
from homeserver.matrix.ids import EventId
from tests.support.auth_graph import ChainStore, by_walking, graph, question

Method = Callable[[NeedsAuthDifference, Mapping[EventId, Event]], set[EventId]]


def by_chains(asked: NeedsAuthDifference, events: Mapping[EventId, Event]) -> set[EventId]:
    store = ChainStore()
    for event in events.values():
        store.add(event)
    return store.answer(asked)


both_ways = pytest.mark.parametrize("method", [by_walking, by_chains])

#     c ← p0 ← p1 ← p2        m1, m2 join under p0; k kicks under p1 and rests on m1; j joins again after k
ROOM = graph(
    {
        "c": [],
        "p0": ["c"],
        "p1": ["c", "p0"],
        "p2": ["c", "p1"],
        "m1": ["c", "p0"],
        "m2": ["c", "p0"],
        "k": ["c", "p1", "m1"],
        "j": ["c", "p1", "k"],
    }
)


@both_ways
def test_state_02_what_only_one_side_rests_on_is_the_difference(method: Method) -> None:
    assert method(question(["c", "p1"], [["m1"], ["j"]]), ROOM) == {"k"}


@both_ways
def test_state_02_what_the_agreed_state_rests_on_is_in_every_auth_chain(method: Method) -> None:
    assert method(question(["c", "p0"], [["j"], ["m2"]]), ROOM) == {"p1", "m1", "k"}
    assert method(question(["c", "p2"], [["j"], ["m2"]]), ROOM) == {"m1", "k"}


@both_ways
def test_state_02_states_count_with_their_own_events(method: Method) -> None:
    # p1 is agreed; only k cites it. By the letter it would be in one chain alone (docs/differences.md).
    assert method(question(["c", "p1"], [["k"], ["m2"]]), ROOM) == {"m1"}


@both_ways
def test_state_02_of_three_sides_what_not_all_rest_on(method: Method) -> None:
    assert method(question(["c"], [["j"], ["k"], ["p1"]]), ROOM) == {"m1"}


@both_ways
def test_state_02_a_side_without_conflicted_events_reaches_only_what_is_agreed(method: Method) -> None:
    assert method(question(["c"], [["k"], []]), ROOM) == {"m1", "p0", "p1"}


@both_ways
def test_state_07_the_subgraph_is_what_lies_between_conflicted_events(method: Method) -> None:
    # k lies between m1 and j. All of it is in every chain, as n rests on j.
    room = {**ROOM, **graph({"n": ["c", "p2", "j"]})}
    assert method(question(["c", "n"], [["m1"], ["j"]]), room) == set()
    assert method(question(["c", "n"], [["m1"], ["j"]], subgraph=True), room) == {"k"}


@both_ways
def test_state_07_paths_may_be_long_and_many(method: Method) -> None:
    room = graph(
        {
            "a": [],
            "b": ["a"],
            "c": ["a"],
            "d": ["b"],
            "e": ["c", "d"],
            "f": ["e"],
            "off": ["c"],
            "top": ["f", "off"],
        }
    )
    assert method(question(["top"], [["a"], ["f"]], subgraph=True), room) == {"b", "c", "d", "e"}


def test_an_event_continues_the_longest_chain_that_ends_in_one_of_its_auth_events() -> None:
    auth = [Place(1, 5), Place(2, 3), Place(3, 9)]
    ends = {1: 5, 2: 3, 3: 10}  # chain 3 goes on after what is cited
    place, links = place_event(auth, ends, {}, new_chain=4)
    assert place == Place(1, 6)
    assert links == (Link(6, Place(2, 3)), Link(6, Place(3, 9)))


def test_an_event_whose_auth_events_end_no_chain_begins_one() -> None:
    assert place_event([Place(1, 5)], {1: 6}, {}, new_chain=2) == (Place(2, 1), (Link(1, Place(1, 5)),))
    assert place_event([], {}, {}, new_chain=1) == (Place(1, 1), ())


def test_a_link_that_another_auth_event_leads_to_is_left_out() -> None:
    links = {2: [Link(2, Place(1, 5))]}
    assert place_event([Place(1, 4), Place(2, 3)], {1: 9, 2: 3}, links, new_chain=3) == (Place(2, 4), ())
    assert place_event([Place(1, 6), Place(2, 3)], {1: 9, 2: 3}, links, new_chain=3).links == (
        Link(4, Place(1, 6)),
    )
    assert place_event([Place(1, 4), Place(2, 1)], {1: 9, 2: 3}, links, new_chain=3).links == (
        Link(1, Place(1, 4)),
        Link(1, Place(2, 1)),
    )


def test_the_links_of_an_event_are_bounded() -> None:
    auth = [Place(chain, 1) for chain in range(1, 11)]
    assert len(place_event(auth, dict.fromkeys(range(1, 11), 1), {}, new_chain=99).links) == MAX_LINKS
