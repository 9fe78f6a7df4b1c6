"""Whether an event from elsewhere may stand: by its auth events, by the state before it, by the room's current state.

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6), #rejection, #soft-failure (FED-12, FED-13)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from homeserver.events import auth_rules
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import Event, StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import REJECTED, SOFT_FAILED
from homeserver.matrix.ids import EventId

CREATE: StateKey = ("m.room.create", "")
Known = Mapping[StateKey, PersistedEvent]


class Grounds(NamedTuple):
    """What an event is judged by; of states what the rules look at (`keys_of`)."""

    auth: Sequence[PersistedEvent]
    before: Known
    """The state before it."""
    now: Known
    """The room's current state."""


def keys_of(event: Event) -> set[StateKey]:
    """What the rules look at for an event."""
    return {*auth_keys_of(event), CREATE}


def keyed(events: Iterable[PersistedEvent]) -> dict[StateKey, PersistedEvent]:
    """State events by their keys."""
    return {each.event.key: each for each in events if each.event.key is not None}


def judge(event: Event, grounds: Grounds, *, refused: bool) -> int:
    """REJECTED, SOFT_FAILED, or 0. `refused`: by policy. What is the same in all three is asked once."""
    keys, cited = keys_of(event), keyed(grounds.auth)
    create = grounds.now.get(CREATE)
    if create is not None:
        cited.setdefault(CREATE, create)
    bad = {each.event.event_id for each in grounds.auth if each.flags & REJECTED}
    try:
        auth_rules.check_auth_events(event, [each.event for each in grounds.auth], bad)
        judged = _check(event, keys, cited)
        if judged != _ids(keys, grounds.before):
            judged = _check(event, keys, grounds.before)
    except auth_rules.Rejected:
        return REJECTED
    if event.key == CREATE and create is not None and create.event.event_id != event.event_id:
        return REJECTED  # the room has begun, with another one; its own may come once more, where it was an outlier
    if refused:
        return SOFT_FAILED
    try:
        if judged != _ids(keys, grounds.now):
            _check(event, keys, grounds.now)
    except auth_rules.Rejected:
        return SOFT_FAILED
    return 0


def stands_on(event: Event, now: Iterable[PersistedEvent]) -> bool:
    """Whether an event would not soft fail, by the room's current state; of that what the rules look at (`keys_of`)."""
    try:
        _check(event, keys_of(event), keyed(now))
    except auth_rules.Rejected:
        return False
    return True


def _check(event: Event, keys: Collection[StateKey], state: Known) -> dict[StateKey, EventId]:
    """What was asked. Raises `Rejected`."""
    auth_rules.check(event, {key: each.event for key, each in state.items()}, event.room_version)
    return _ids(keys, state)


def _ids(keys: Collection[StateKey], state: Known) -> dict[StateKey, EventId]:
    return {key: state[key].event.event_id for key in keys if key in state}
