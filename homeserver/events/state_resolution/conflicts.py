"""Which entries several states agree on, and which events they disagree about.

spec: rooms/v2/#definitions (unconflicted state map and conflicted state set)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.events.event import StateKey
from homeserver.events.state_resolution.pool import StateMap
from homeserver.matrix.ids import EventId


@dataclass(frozen=True, slots=True)
class Conflicts:
    """`unconflicted` is in every state; what else state *i* has is `conflicted[i]`."""

    unconflicted: dict[StateKey, EventId]
    conflicted: tuple[frozenset[EventId], ...]

    @property
    def conflicted_set(self) -> frozenset[EventId]:
        return frozenset[EventId]().union(*self.conflicted)


def find_conflicts(state_sets: Sequence[StateMap]) -> Conflicts:
    """Split at least one state. An entry that one of the states lacks is conflicted."""
    first, *others = state_sets
    common = set(first.items())
    for other in others:
        common.intersection_update(other.items())
    conflicted = tuple(
        frozenset(item[1] for item in state.items() if item not in common) for state in state_sets
    )
    return Conflicts(dict(common), conflicted)
