"""Kicks and bans that redact what their target has said: which do, and who may have them do so. Pure. spec: MSC4293"""

from __future__ import annotations

from typing import Final

from homeserver.events.auth_rules.power import POWER_LEVELS, State, can_act, can_send
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion

REDACT_EVENTS: Final = "org.matrix.msc4293.redact_events"
_REDACTION: Final = "m.room.redaction"


def asks_to_redact(event: Event) -> bool:
    """Whether an event is a kick or ban of somebody else and says so. Leaving oneself never does."""
    return (
        event.type == "m.room.member"
        and event.state_key is not None
        and event.state_key != event.sender
        and event.membership in ("leave", "ban")
        and event.content.get(REDACT_EVENTS) is True
    )


def may_redact_all(state: State, sender: str, version: RoomVersion) -> bool:
    """Whether who kicks or bans could redact what others have sent: by the redact level, and by that of m.room.redaction events if
    the room has set one. `state`: before the kick or ban, as `auth_rules.power` wants it.
    """
    levels = state.get(POWER_LEVELS)
    by_type = levels.content.get("events") if levels is not None else None
    is_set = isinstance(by_type, dict) and _REDACTION in by_type
    may_send = not is_set or can_send(state, sender, _REDACTION, version, is_state=False)
    return may_send and can_act(state, sender, "redact", version)
