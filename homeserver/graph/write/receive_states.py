"""States that events of a run stand on and make: written ones by number, with what the run itself has put on top of them.

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.entry import StateChange
from homeserver.graph.persisted_event import PersistedEvent, Replaced
from homeserver.graph.refs import MEMBER, MEMBERSHIPS, EventRef, StateRef
from homeserver.graph.resolved import NewState
from homeserver.matrix.ids import ServerName, UserId, domain_of

Point = EventRef | int


class Cut(Exception):  # a run ends with it: nobody else sees it
    """What was built so far has to be written first."""


class State(NamedTuple):
    """A state of the room that an event stands on, or makes."""

    ref: StateRef
    over: Mapping[StateKey, PersistedEvent] = {}
    """What is in it of this run, on top of the state `below`."""
    below: int = 0

    @property
    def point(self) -> Point:
        return self.ref.nid or self.ref.event or 0


class Before(NamedTuple):
    """What an event stands on."""

    state: State
    relevant: Mapping[StateKey, PersistedEvent]
    """What of that the rules look at, and what stands at the event's own key."""
    new: NewState | None


class After(NamedTuple):
    """The room with an event in it."""

    extremities: tuple[EventRef, ...]
    state: State
    changes: tuple[StateChange, ...] = ()
    new: NewState | None = None
    superseded: StateChange | None = None


def want_numbers(states: Iterable[State]) -> None:
    """What is resolved or compared has to be written."""
    if any(state.over for state in states):
        raise Cut


def with_event(state: State, persisted: PersistedEvent) -> State:
    """The state after an accepted event."""
    key = persisted.event.key
    if key is None:
        return state
    ref = StateRef(state.ref.height + 1, event=persisted.ref)
    return State(ref, {**state.over, key: persisted}, state.below)


def replaced(old: PersistedEvent | None) -> Replaced | None:
    if old is None:
        return None
    return Replaced(old.ref, old.event.event_id, old.event.sender, old.event.content_json)


def change_of(  # noqa: PLR0917  # what a change of state is
    server_name: ServerName,
    key: StateKey,
    key_nid: int,
    ref: EventRef | None,
    membership: str | None,
    nids: Mapping[UserId, int],
) -> StateChange:
    """A change of the room's state: `ref` stands at `key` from now on, None: nothing. `nids`: of the users of memberships."""
    if key[0] != MEMBER:
        return StateChange(key, key_nid, ref)
    user_id = UserId(key[1])
    local = domain_of(user_id) == server_name
    return StateChange(key, key_nid, ref, nids[user_id], MEMBERSHIPS.get(membership or ""), local)
