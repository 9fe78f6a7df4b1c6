"""State resolution version 2.1, for room version 12: version 2, but power is rebuilt from nothing.

Two things differ, so that a state that merely both sides still carry cannot decide over newer events: the passes start from
an empty state, and every event between two conflicted ones is tried again along with them (STATE-07).

spec: rooms/v12/#state-resolution
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.events.state_resolution.conflicts import find_conflicts
from homeserver.events.state_resolution.pool import Base, Pool, StateMap, Steps
from homeserver.events.state_resolution.v2 import full_conflicted_set, settle


def resolve_v2_1(state_sets: Sequence[StateMap], pool: Pool) -> Steps[StateMap]:
    """Resolve at least one state."""
    conflicts = find_conflicts(state_sets)
    if not conflicts.conflicted_set:
        return conflicts.unconflicted
    full = yield from full_conflicted_set(conflicts, pool, subgraph=True)
    settled = yield from settle(full, Base({}, pool, asks=False), pool)
    return settled | conflicts.unconflicted
