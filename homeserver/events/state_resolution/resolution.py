"""`Resolution`: several states of a room become one, by the algorithm of the room's version, without doing any I/O.

The shell drives it, and may do so in a thread when the states are large:

    resolution = Resolution(state_sets, version, rejected=rejected)
    while request := resolution.advance():
        resolution.add_events(await load(request.event_ids))
    state = resolution.state

spec: rooms/v1/#state-resolution, rooms/v2/#state-resolution, rooms/v12/#state-resolution
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion, StateResolution
from homeserver.events.state_resolution.pool import NeedsEvents, Pool, Request, StateMap, Steps
from homeserver.events.state_resolution.v1 import resolve_v1
from homeserver.events.state_resolution.v2 import resolve_v2
from homeserver.events.state_resolution.v2_1 import resolve_v2_1
from homeserver.matrix.ids import EventId

_ALGORITHMS: Final[Mapping[StateResolution, Callable[[Sequence[StateMap], Pool], Steps[StateMap]]]] = {
    StateResolution.V1: resolve_v1,
    StateResolution.V2: resolve_v2,
    StateResolution.V2_1: resolve_v2_1,
}


class Resolution:
    """One resolution on its way. Holds every event it was given until it is dropped."""

    def __init__(
        self,
        state_sets: Sequence[StateMap],
        version: RoomVersion,
        *,
        rejected: Container[EventId] = frozenset(),
        asks_auth_difference: bool = False,
        asks_agreed: bool = False,
    ) -> None:
        """Resolve at least one state.

        `rejected` is asked only about events that have been supplied, so the shell may fill it as it loads. With
        `asks_auth_difference` the auth difference is requested (`NeedsAuthDifference`) instead of walked to. With
        `asks_agreed` the states hold only what they differ in, and what they agree on is requested where it matters
        (`NeedsAgreed`); over `state` it then has the last word. The auth difference must be requested, too.
        """
        self._pool = Pool(
            version, rejected, asks_auth_difference=asks_auth_difference, asks_agreed=asks_agreed
        )
        self._steps = _ALGORITHMS[version.state_resolution](state_sets, self._pool)
        self._state: StateMap | None = None

    def advance(self) -> Request | None:
        """Go on as far as possible: what is needed next, or None when `state` is there.

        Raises `MissingEvents` if the last request was not answered in full.
        """
        if self._state is None:
            try:
                return next(self._steps)
            except StopIteration as stop:
                self._state = stop.value
        return None

    def add_events(self, events: Iterable[Event]) -> None:
        """Supply what a `NeedsEvents` asked for, and more if it is at hand (a power levels event's predecessors, say)."""
        self._pool.events.update((event.event_id, event) for event in events)

    def add_auth_difference(self, event_ids: Iterable[EventId]) -> None:
        """Answer a `NeedsAuthDifference`."""
        self._pool.auth_difference = frozenset(event_ids)

    def add_agreed(self, state: StateMap) -> None:
        """Answer a `NeedsAgreed`: those of the keys that are set."""
        self._pool.agreed.update(state)

    @property
    def state(self) -> StateMap:
        """The resolved state. Only after `advance` has returned None."""
        assert self._state is not None, "the resolution is not finished"
        return self._state


def resolve(
    state_sets: Sequence[StateMap],
    events: Mapping[EventId, Event],
    version: RoomVersion,
    *,
    rejected: Container[EventId] = frozenset(),
) -> StateMap:
    """Resolve when all events are at hand. Raises `KeyError` if one is not."""
    resolution = Resolution(state_sets, version, rejected=rejected)
    while request := resolution.advance():
        assert isinstance(request, NeedsEvents)
        resolution.add_events(events[event_id] for event_id in request.event_ids)
    return resolution.state
