"""Our authorisation rules and state resolution against Synapse's, on generated room histories.

What is known to differ is not generated here; it has tests of its own in `test_known_differences.py`.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.events.event import Event
from homeserver.events.state_resolution import resolve
from homeserver.matrix.ids import EventId
from tests.interop.oracle.client import Oracle
from tests.interop.oracle.seeds import remembered
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, RoomFactory
from tests.support.histories import History, Step, play

pytestmark = pytest.mark.interop

EXAMPLES = int(os.environ.get("ATRIUM_ORACLE_EXAMPLES", "60"))
"""Histories per room version; the whole table is 12 times as many."""

LONG_HISTORIES = int(os.environ.get("ATRIUM_ORACLE_LONG_HISTORIES", "100"))
"""The same for the slow test; always the same ones. Tried by hand up to 250."""

small = st.integers(0, 120)
steps = st.lists(st.builds(Step, small, small, small, small, small, small), min_size=5, max_size=60)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_synapse_judges_and_resolves_the_same(oracle: Oracle, version: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(steps)
    def compare(drawn: list[Step]) -> None:
        assert_same(oracle, play(version, drawn))

    for history in remembered(version):
        assert_same(oracle, play(version, history))
    compare()


@pytest.mark.slow
@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_synapse_judges_and_resolves_hundreds_of_long_histories_the_same(
    oracle: Oracle, version: str
) -> None:
    for seed in range(LONG_HISTORIES):
        chance = random.Random(f"{version} {seed}")
        length = chance.randrange(20, 150)
        drawn = [Step(*(chance.randrange(121) for _ in Step._fields)) for _ in range(length)]
        assert_same(oracle, play(version, drawn))


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_synapse_judges_auth_events_the_same(oracle: Oracle, version: str) -> None:
    @settings(max_examples=max(1, EXAMPLES // 2), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        steps,
        st.lists(st.tuples(st.integers(0, 4), st.lists(small, max_size=6)), min_size=1, max_size=20),
        st.lists(small, max_size=3),
    )
    def compare(drawn: list[Step], drafts: list[tuple[int, list[int]]], rejections: list[int]) -> None:
        room = play(version, drawn).room
        known = list(room.events)
        rejected = {known[number % len(known)] for number in rejections} - {room.create.event_id}
        events = [
            draft_citing(room, kind, [known[number % len(known)] for number in auth]) for kind, auth in drafts
        ]
        answer = oracle.ask(
            "rules.room",
            {
                "version": version,
                "events": {e.event_id: dict(e.fields) for e in [*room.events.values(), *events]},
                "rejected": sorted(rejected),
                "checks": [[event.event_id, []] for event in events],
                "resolutions": [],
            },
        )
        for event, theirs in zip(events, answer["auth_events"], strict=True):
            ours = room.auth_rejection(event, frozenset(rejected))
            assert (ours is None) == (theirs is None), f"{event.fields}: we say {ours}, Synapse {theirs}"

    compare()


def draft_citing(room: RoomFactory, kind: int, extra: list[EventId]) -> Event:
    """One of a few events that cites other events than it should: some of the right ones, and `extra`."""
    draft = (
        room.draft("m.room.message", {}, by=BOB),
        room.draft_member(CAROL, "join", join_authorised_via_users_server=BOB),
        room.draft_member(CAROL, "leave", by=BOB, join_authorised_via_users_server=ALICE),
        room.draft_member(CAROL, "invite", by=BOB, third_party_invite={"signed": {"token": "token0"}}),
        room.draft("m.room.power_levels", {}, by=BOB, key=""),
    )[kind]
    keep = len(draft.auth_event_ids) - (len(extra) % 2)
    auth = [*draft.auth_event_ids[:keep], *extra]
    return room.draft(draft.type, draft.content, by=draft.sender, key=draft.state_key, auth=auth)


def assert_same(oracle: Oracle, history: History) -> None:
    """Every attempt judged, and every merge resolved, as Synapse does."""
    answer = oracle.ask("rules.room", question(history))
    assert answer["ids"] == {event_id: event_id for event_id in history.events}
    for attempt, theirs, about_auth_events in zip(
        history.attempts, answer["checks"], answer["auth_events"], strict=True
    ):
        ours = history.room.rejection(attempt.event, state_of(history, attempt.state))
        assert (ours is None) == (theirs is None), f"{attempt.event.fields}: we say {ours}, Synapse {theirs}"
        assert about_auth_events is None
    for states, theirs in zip(history.merges, answer["resolutions"], strict=True):
        ours = resolve(states, history.room.events, history.room.version)
        assert sorted([kind, key, event_id] for (kind, key), event_id in ours.items()) == theirs


def question(history: History) -> dict[str, Any]:
    return {
        "version": history.room.version.id,
        "events": {event_id: dict(event.fields) for event_id, event in history.events.items()},
        "checks": [[attempt.event.event_id, list(attempt.state.values())] for attempt in history.attempts],
        "resolutions": [
            [[[kind, key, event_id] for (kind, key), event_id in state.items()] for state in states]
            for states in history.merges
        ],
    }


def state_of(history: History, ids: Any) -> Any:
    return {key: history.room.events[event_id] for key, event_id in ids.items()}
