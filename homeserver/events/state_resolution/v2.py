"""State resolution version 2, for room versions 2 to 11, and the part of it that version 2.1 shares.

First what gives and takes power is settled, in an order that lets the greater power speak first; then the rest, in the
order of the power levels it rests on. Every event must be allowed by what was settled before it.

spec: rooms/v2/#state-resolution
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.events.auth_rules.power import POWER_LEVELS
from homeserver.events.event import StateKey
from homeserver.events.state_resolution.auth_checks import iterative_auth_checks
from homeserver.events.state_resolution.auth_difference import walk_auth_difference
from homeserver.events.state_resolution.conflicts import Conflicts, find_conflicts
from homeserver.events.state_resolution.ordering import (
    is_power_event,
    mainline_order,
    reverse_topological_power_order,
)
from homeserver.events.state_resolution.pool import Base, NeedsAuthDifference, Pool, StateMap, Steps
from homeserver.matrix.ids import EventId


def resolve_v2(state_sets: Sequence[StateMap], pool: Pool) -> Steps[StateMap]:
    """Resolve at least one state."""
    conflicts = find_conflicts(state_sets)
    if not conflicts.conflicted_set:
        return conflicts.unconflicted
    full = yield from full_conflicted_set(conflicts, pool, subgraph=False)
    # Both passes start from what the states agree on (version 2.1 starts from nothing).
    base = Base(conflicts.unconflicted, pool, asks=pool.asks_agreed)
    settled = yield from settle(full, base, pool)
    # 5: what the states agree on has the last word.
    return settled | conflicts.unconflicted


def full_conflicted_set(conflicts: Conflicts, pool: Pool, *, subgraph: bool) -> Steps[frozenset[EventId]]:
    """Conflicted state, auth difference and, for version 2.1, the conflicted state subgraph; all events at hand (STATE-02)."""
    question = NeedsAuthDifference(conflicts.unconflicted, conflicts.conflicted, subgraph)
    if pool.asks_auth_difference:
        yield question
        difference = pool.auth_difference
        assert difference is not None, "the auth difference was asked for and not supplied"
    else:
        difference = yield from walk_auth_difference(question, pool)
    full = conflicts.conflicted_set | difference
    yield from pool.load(full)
    yield from pool.load(auth_id for event_id in full for auth_id in pool.auth_ids(pool.events[event_id]))
    return full


def settle(full: frozenset[EventId], base: Base, pool: Pool) -> Steps[dict[StateKey, EventId]]:
    """What becomes of the full conflicted set, starting from `base`: the entries that were allowed."""
    settled: dict[StateKey, EventId] = {}
    # 1: power events, and what authorises them, in the order of power (STATE-03, STATE-04).
    power_ids = _with_conflicted_auth_events((e for e in full if is_power_event(pool.events[e])), full, pool)
    # 2: try them.
    yield from iterative_auth_checks(reverse_topological_power_order(power_ids, pool), base, settled, pool)
    # 3: the rest, in the order of the power levels just settled (STATE-05).
    yield from base.load((POWER_LEVELS,))
    mainline = settled.get(POWER_LEVELS) or base.get(POWER_LEVELS)
    rest = yield from mainline_order(full - power_ids, mainline, pool)
    # 4: try them.
    yield from iterative_auth_checks(rest, base, settled, pool)
    return settled


def _with_conflicted_auth_events(
    event_ids: Iterable[EventId], full: frozenset[EventId], pool: Pool
) -> frozenset[EventId]:
    """The events and those of their auth events that are conflicted, recursively."""
    found = set(event_ids)
    waiting = list(found)
    while waiting:
        for auth_id in pool.events[waiting.pop()].auth_event_ids:
            if auth_id in full and auth_id not in found:
                found.add(auth_id)
                waiting.append(auth_id)
    return frozenset(found)
