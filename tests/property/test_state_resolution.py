"""What holds for every history: the order of the input does not matter (STATE-09), and both ways to the auth difference agree."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeserver.events.state_resolution import (
    NeedsAgreed,
    NeedsAuthDifference,
    NeedsEvents,
    Resolution,
    resolve,
)
from homeserver.events.state_resolution.conflicts import find_conflicts
from homeserver.matrix.ids import EventId
from tests.support.auth_graph import ChainStore, bare_event, by_walking, question
from tests.support.factory import ALL_VERSIONS
from tests.support.histories import Step, play

small = st.integers(0, 120)
steps = st.lists(st.builds(Step, small, small, small, small, small, small), max_size=50)
version_ids = st.sampled_from(ALL_VERSIONS)


@settings(deadline=None, max_examples=150)
@given(version_ids, steps, st.randoms(use_true_random=False))
def test_state_09_the_order_of_states_and_of_their_entries_does_not_matter(version, drawn, chance) -> None:
    history = play(version, drawn)
    for states in history.merges:
        expected = resolve(states, history.room.events, history.room.version)
        shuffled = []
        for state in states:
            entries = list(state.items())
            chance.shuffle(entries)
            shuffled.append(dict(entries))
        chance.shuffle(shuffled)
        assert resolve(shuffled, history.room.events, history.room.version) == expected
        # Nor does it matter how often a state is named,
        assert resolve([*shuffled, shuffled[0]], history.room.events, history.room.version) == expected


@settings(deadline=None, max_examples=60)
@given(version_ids.filter(lambda version: version != "1"), steps)
def test_state_09_the_result_is_the_same_whoever_computes_the_auth_difference(version, drawn) -> None:
    history = play(version, drawn)
    store = ChainStore()
    for event in history.room.events.values():
        store.add(event)
    for states in history.merges:
        resolution = Resolution(states, history.room.version, asks_auth_difference=True)
        while request := resolution.advance():
            if isinstance(request, NeedsEvents):
                resolution.add_events(history.room.events[event_id] for event_id in request.event_ids)
            else:
                assert isinstance(request, NeedsAuthDifference)
                resolution.add_auth_difference(store.answer(request))
        assert resolution.state == resolve(states, history.room.events, history.room.version)


@settings(deadline=None, max_examples=60)
@given(version_ids, steps)
def test_what_all_states_agree_on_stays_and_nothing_is_made_up(version, drawn) -> None:
    history = play(version, drawn)
    for states in history.merges:
        resolved = resolve(states, history.room.events, history.room.version)
        agreed = find_conflicts(states).unconflicted
        assert agreed.items() <= resolved.items()
        for key, event_id in resolved.items():
            assert history.room.events[event_id].key == key


@settings(deadline=None, max_examples=100)
@given(version_ids, steps)
def test_state_09_the_result_is_the_same_from_what_the_states_differ_in(version, drawn) -> None:
    """What they agree on is asked for where it matters, and overlaid by whoever has it."""
    history = play(version, drawn)
    for states in history.merges:
        agreed = find_conflicts(states).unconflicted
        differing = [dict(state.items() - agreed.items()) for state in states]
        resolution = Resolution(differing, history.room.version, asks_auth_difference=True, asks_agreed=True)
        while request := resolution.advance():
            if isinstance(request, NeedsEvents):
                resolution.add_events(history.room.events[event_id] for event_id in request.event_ids)
            elif isinstance(request, NeedsAgreed):
                resolution.add_agreed({key: agreed[key] for key in request.keys if key in agreed})
            else:
                whole = NeedsAuthDifference(agreed, request.conflicted, request.subgraph)
                resolution.add_auth_difference(by_walking(whole, history.room.events))
        expected = resolve(states, history.room.events, history.room.version)
        assert {**resolution.state, **agreed} == expected


graphs = st.lists(st.lists(st.integers(0, 1_000_000), max_size=10), min_size=2, max_size=60)
places = st.lists(st.integers(0, 1_000_000), max_size=6)


@settings(deadline=None, max_examples=400)
@given(graphs, places, st.lists(places, min_size=2, max_size=5))
@example(graph=[[], [0], [0, 1], [1], [2, 3]], common=[0], sides=[[4], [3]])
def test_chain_cover_answers_what_walking_answers(graph, common, sides) -> None:
    names = [f"${number}" for number in range(len(graph))]
    events = {}
    store = ChainStore()
    for number, cited in enumerate(graph):
        auth = sorted({names[choice % number] for choice in cited}) if number else []
        event = bare_event(names[number], auth)
        events[EventId(event.event_id)] = event
        store.add(event)

    def named(choices):
        return {names[choice % len(names)] for choice in choices}

    agreed = named(common)
    conflicted = [named(side) - agreed for side in sides]
    for subgraph in (False, True):
        asked = question(agreed, conflicted, subgraph=subgraph)
        assert store.answer(asked) == by_walking(asked, events)


@settings(deadline=None, max_examples=100)
@given(graphs)
def test_chain_cover_reaches_what_auth_events_reach(graph) -> None:
    store = ChainStore()
    reach: dict[str, set[str]] = {}
    events = {}
    for number, cited in enumerate(graph):
        auth = sorted({f"${choice % number}" for choice in cited}) if number else []
        event = bare_event(f"${number}", auth)
        events[EventId(event.event_id)] = event
        store.add(event)
        reach[event.event_id] = {event.event_id}.union(*(reach[a] for a in auth))
    last = f"${len(graph) - 1}"
    # Against nothing at all, the difference is everything that is reached.
    assert store.answer(question([], [[last], []])) == reach[last] - {last}
