"""Auth difference and conflicted state subgraph by walking the auth events: right always, and linear in what it walks.

For callers without a chain cover (`chain_cover.py` answers the same question from a few rows). Breadth first, because every
layer is one request; no recursion, because an auth chain can be as long as a room is old.

spec: rooms/v2/#definitions (auth difference), rooms/v12/#definitions (conflicted state subgraph)
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.events.state_resolution.pool import NeedsAuthDifference, Pool, Steps
from homeserver.matrix.ids import EventId


def walk_auth_difference(question: NeedsAuthDifference, pool: Pool) -> Steps[frozenset[EventId]]:
    """Answer the question from the events themselves."""
    conflicted = frozenset[EventId]().union(*question.conflicted)
    ancestors = yield from _ancestors(conflicted, pool)
    order = _newest_first(ancestors, pool)

    # Which states reach an event, as one bit each, handed down from the newest to the oldest.
    reached_by = dict.fromkeys(ancestors, 0)
    for bit, events in enumerate(question.conflicted):
        for event_id in events:
            reached_by[event_id] |= 1 << bit
    for event_id in order:
        for auth_id in pool.events[event_id].auth_event_ids:
            reached_by[auth_id] |= reached_by[event_id]
    everybody = (1 << len(question.conflicted)) - 1
    partial = frozenset(e for e, states in reached_by.items() if states != everybody) - conflicted

    # What the states agree on, and all that authorises it, is in every auth chain.
    partial -= yield from _reachable(question.unconflicted.values(), partial, pool)

    return partial | _between(conflicted, order, pool) if question.subgraph else partial


def _ancestors(starts: Iterable[EventId], pool: Pool) -> Steps[set[EventId]]:
    """The given events and all their auth events, recursively."""
    seen = set(starts)
    layer: Iterable[EventId] = tuple(seen)
    while layer:
        yield from pool.load(layer)
        layer = {auth_id for event_id in layer for auth_id in pool.events[event_id].auth_event_ids} - seen
        seen |= layer
    return seen


def _newest_first(event_ids: set[EventId], pool: Pool) -> list[EventId]:
    """A closed set of events, each before its auth events."""
    cited_by = dict.fromkeys(event_ids, 0)
    for event_id in event_ids:
        for auth_id in pool.events[event_id].auth_event_ids:
            cited_by[auth_id] += 1
    order = [event_id for event_id, count in cited_by.items() if count == 0]
    for event_id in order:  # grows while it is walked
        for auth_id in pool.events[event_id].auth_event_ids:
            cited_by[auth_id] -= 1
            if cited_by[auth_id] == 0:
                order.append(auth_id)
    return order


def _reachable(
    starts: Iterable[EventId], targets: frozenset[EventId], pool: Pool
) -> Steps[frozenset[EventId]]:
    """Those targets that are among the given events or their auth events; stops when all are found."""
    seen = set(starts)
    found = targets & seen
    layer: Iterable[EventId] = tuple(seen)
    while layer and len(found) < len(targets):
        yield from pool.load(layer)
        layer = {auth_id for event_id in layer for auth_id in pool.events[event_id].auth_event_ids} - seen
        seen |= layer
        found |= targets & layer
    return found


def _between(conflicted: frozenset[EventId], newest_first: list[EventId], pool: Pool) -> set[EventId]:
    """Of the conflicted events and their ancestors, those from which a conflicted event can be reached."""
    leading = set(conflicted)
    for event_id in reversed(newest_first):
        if not leading.isdisjoint(pool.events[event_id].auth_event_ids):
            leading.add(event_id)
    return leading
