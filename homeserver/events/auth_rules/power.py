"""Power: who may do what in a state of a room. The rules and the services ask the same questions here.

`state` is any mapping that has the room's m.room.create and, if there is one, m.room.power_levels. Every question costs
a few look-ups, however many users the power levels list. Versions 1-9 let malformed levels into a room: who asks for such a
level gets `BadLevel`, and what depends on one is not allowed (`can_…` say no).

spec: client-server-api/#mroompower_levels, rooms/v12/#authorisation-rules
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol

from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion

State = Mapping[StateKey, Event]
Action = Literal["ban", "kick", "invite", "redact"]

CREATE: Final = ("m.room.create", "")
POWER_LEVELS: Final = ("m.room.power_levels", "")


class Stated(Protocol):
    """What is asked of an event here; of stripped state it is known, too."""

    @property
    def sender(self) -> str: ...

    @property
    def content(self) -> Mapping[str, Any]: ...


def levels_in(state: State, version: RoomVersion) -> PowerLevels:
    """The levels in force in a state."""
    create, event = state.get(CREATE), state.get(POWER_LEVELS)
    creators = frozenset[str]() if create is None else creators_of(create, version)
    return PowerLevels(None if event is None else event.content, version, creators)


def creators_of(create: Stated, version: RoomVersion) -> frozenset[str]:
    """Who created the room: `content.creator` (v1-10), the sender (v11), the sender and `additional_creators` (v12)."""
    if version.creator_in_content:
        creator = create.content.get("creator")
        return frozenset((creator,)) if isinstance(creator, str) else frozenset()
    additional = create.content.get("additional_creators") if version.privileged_creators else None
    listed = additional if isinstance(additional, list) else ()
    return frozenset((create.sender, *(user for user in listed if isinstance(user, str))))


def user_level(state: State, user_id: str, version: RoomVersion) -> int:
    """A user's level, whether or not they are in the room."""
    return levels_in(state, version).user_level(user_id)


def action_level(state: State, action: Action, version: RoomVersion) -> int:
    """The *ban*, *kick*, *invite* or *redact level*."""
    return levels_in(state, version).named(action)


def event_level(state: State, event_type: str, version: RoomVersion, *, is_state: bool) -> int:
    """The level required to send an event of this type."""
    return levels_in(state, version).event_level(event_type, state=is_state)


def notification_level(state: State, key: str, version: RoomVersion) -> int:
    """The level required to trigger a notification such as `room`."""
    return levels_in(state, version).notification_level(key)


def can_send(state: State, user_id: str, event_type: str, version: RoomVersion, *, is_state: bool) -> bool:
    """Whether the level suffices for the event type; membership is not looked at."""
    levels = levels_in(state, version)
    with suppress(BadLevel):
        return levels.user_level(user_id) >= levels.event_level(event_type, state=is_state)
    return False


def can_act(state: State, user_id: str, action: Action, version: RoomVersion) -> bool:
    """Whether the level suffices to invite, or to redact what others sent; membership is not looked at."""
    levels = levels_in(state, version)
    with suppress(BadLevel):
        return levels.user_level(user_id) >= levels.named(action)
    return False


def can_remove(
    state: State, user_id: str, target: str, action: Literal["kick", "ban"], version: RoomVersion
) -> bool:
    """Whether the level suffices to kick or ban, and the target's level is below it."""
    levels = levels_in(state, version)
    with suppress(BadLevel):
        level = levels.user_level(user_id)
        return level >= levels.named(action) and level > levels.user_level(target)
    return False
