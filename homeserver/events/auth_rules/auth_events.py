"""Rules 2 and 3: the event's own `auth_events`, before its content is judged. They need no state.

spec: rooms/v1/#authorisation-rules (2), rooms/v12/#authorisation-rules (2, 3), server-server-api/#auth-events-selection
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Final

from homeserver.events.auth_rules.rejected import Rejected
from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.event import Event, StateKey
from homeserver.matrix.ids import EventId

_CREATE: Final = ("m.room.create", "")


def check_auth_events(event: Event, auth_events: Sequence[Event], rejected: Container[EventId]) -> None:
    """Raise `Rejected` unless the event cites what the selection algorithm allows it to, and nothing rejected.

    `auth_events` are the events `event.auth_event_ids` names, all of them; the caller fetches what is missing first.
    `rejected` is asked about their ids and, in version 12, about the create event the room ID stands for.
    """
    if event.type == "m.room.create":
        return
    version = event.room_version

    # 2 (v12): the create event that the room ID names was accepted.
    if version.room_id_is_create_hash and create_id_of(event) in rejected:
        raise Rejected("2", "the room's m.room.create was rejected")

    expected = set(auth_keys_of(event))
    seen: set[StateKey] = set()
    for auth_event in auth_events:
        key = auth_event.key
        # 3.5: it belongs to this room.
        if auth_event.room_id != event.room_id:
            raise Rejected("3.5", "an auth event belongs to another room")
        # 3.1: no two for one key.
        if key in seen:
            raise Rejected("3.1", f"two auth events for {auth_event.type}")
        # 3.2: nothing the selection would not have chosen (version 12: not the create event either).
        if key is None or key not in expected:
            raise Rejected("3.2", f"an auth event of type {auth_event.type} is not to be cited")
        # 3.3: nothing that was itself rejected.
        if auth_event.event_id in rejected:
            raise Rejected("3.3", f"the auth event of type {auth_event.type} was rejected")
        seen.add(key)

    # 2.4 (v1-11): the create event is among them.
    if not version.room_id_is_create_hash and _CREATE not in seen:
        raise Rejected("v1 2.4", "m.room.create is not among the auth events")


def auth_keys_of(event: Event) -> Collection[StateKey]:
    """The entries of the state that authorise this event (EVT-07); only these are looked up by `check`."""
    return auth_keys_for(event.type, event.state_key, event.sender, event.content, event.room_version)


def create_id_of(event: Event) -> EventId:
    """Version 12: the id of the room's create event, which every event implies. spec: rooms/v12/#event-format"""
    return EventId("$" + event.room_id[1:])
