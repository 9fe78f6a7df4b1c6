"""State resolution version 1, for room version 1 alone: power levels, then join rules, then members, then the rest.

spec: rooms/v1/#state-resolution
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from homeserver.events.auth_rules import Rejected, check
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.auth_rules.power import POWER_LEVELS
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.events.state_resolution.pool import Base, Pool, StateMap, Steps
from homeserver.matrix.ids import EventId

State = MutableMapping[StateKey, Event]

_LAST_PASS: Final = 3


def resolve_v1(state_sets: Sequence[StateMap], pool: Pool) -> Steps[StateMap]:
    """Resolve at least one state. An entry that only some of the states have is no conflict here (STATE-01)."""
    candidates: dict[StateKey, set[EventId]] = {}
    for state_set in state_sets:
        for key, event_id in state_set.items():
            candidates.setdefault(key, set()).add(event_id)
    resolved = {key: next(iter(ids)) for key, ids in candidates.items() if len(ids) == 1}
    yield from pool.load(event_id for ids in candidates.values() if len(ids) > 1 for event_id in ids)
    conflicts = {
        key: [pool.events[event_id] for event_id in ids] for key, ids in candidates.items() if len(ids) > 1
    }

    needed = {key for events in conflicts.values() for event in events for key in auth_keys_of(event)}
    base = Base({}, pool, asks=pool.asks_agreed)
    if pool.asks_agreed:
        yield from base.load(needed - candidates.keys())
    found = {key: resolved.get(key) or (pool.agreed.get(key)) for key in needed}
    yield from pool.load(event_id for event_id in found.values() if event_id is not None)
    state = {key: pool.events[event_id] for key, event_id in found.items() if event_id is not None}

    # Within a pass the entries do not see each other, so that their order cannot matter.
    for current in range(_LAST_PASS + 1):
        picked = {
            key: _pick(events, state, pool.version, authority=current < _LAST_PASS)
            for key, events in conflicts.items()
            if _pass_of(key) == current
        }
        state.update(picked)
        resolved.update((key, event.event_id) for key, event in picked.items())
    return resolved


def _pass_of(key: StateKey) -> int:
    """Power levels, join rules, members; everything else comes last."""
    if key == POWER_LEVELS:
        return 0
    return {"m.room.join_rules": 1, "m.room.member": 2}.get(key[0], _LAST_PASS)


def _pick(events: Sequence[Event], state: State, version: RoomVersion, *, authority: bool) -> Event:
    pick = _last_of_unbroken_line if authority else _highest_allowed
    return pick(sorted(events, key=_depth_then_hash), state, version)


def _depth_then_hash(event: Event) -> tuple[int, str]:
    """Highest depth first, then lowest hash of the id."""
    return -event.depth, hashlib.sha1(event.event_id.encode(), usedforsecurity=False).hexdigest()


def _last_of_unbroken_line(highest_first: Sequence[Event], state: State, version: RoomVersion) -> Event:
    """From the lowest up, each is tried in the state as the one before left it; the first that is not allowed ends the line."""
    *others, accepted = highest_first
    for event in reversed(others):
        assert accepted.key is not None
        if not _allowed(event, ChainMap({accepted.key: accepted}, state), version):
            break
        accepted = event
    return accepted


def _highest_allowed(highest_first: Sequence[Event], state: State, version: RoomVersion) -> Event:
    """The first that is allowed; the lowest of all if none is, which the text leaves open (docs/differences.md)."""
    return next((event for event in highest_first if _allowed(event, state, version)), highest_first[-1])


def _allowed(event: Event, state: Mapping[StateKey, Event], version: RoomVersion) -> bool:
    try:
        check(event, state, version)
    except Rejected:
        return False
    return True
