"""Iterative auth checks: conflicted events are tried one after another, and those the rules allow enter the state.

spec: rooms/v2/#definitions (iterative auth checks), rooms/v2/#rejected-events
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.events.auth_rules import Rejected, check
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import StateKey
from homeserver.events.state_resolution.pool import Base, Pool, Steps
from homeserver.matrix.ids import EventId


def iterative_auth_checks(
    event_ids: Sequence[EventId], base: Base, settled: dict[StateKey, EventId], pool: Pool
) -> Steps[None]:
    """Try the events in order; each that is allowed becomes an entry of `settled`, which hides those of `base`.

    The events and their auth events must be at hand. An event that was once rejected by the state it was sent in is tried like
    any other (STATE-08).
    """
    keys = {event_id: auth_keys_of(pool.events[event_id]) for event_id in event_ids}
    yield from base.load(key for wanted in keys.values() for key in wanted)
    for event_id in event_ids:
        event = pool.events[event_id]
        # What the state does not have is taken from the event's own auth events, unless rejected (STATE-06).
        auth_state = {
            key: auth_event
            for key, auth_event in pool.auth_state(event).items()
            if auth_event.event_id not in pool.rejected
        }
        for key in keys[event_id]:
            current = settled.get(key) or base.get(key)
            if current is not None:
                auth_state[key] = pool.events[current]
        try:
            check(event, auth_state, pool.version)
        except Rejected:
            continue
        assert event.key is not None
        settled[event.key] = event_id
