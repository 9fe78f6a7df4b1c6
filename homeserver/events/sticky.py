"""Sticky events: messages that are told to whoever is in the room, for as long as they say. Pure.

The unstable names are used, which are those that clients and other servers speak. spec: MSC4354
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from homeserver.events.event import Event

KEY: Final = "msc4354_sticky"
"""Of an event, at its top level: `{"duration_ms": …}`."""
REMAINING: Final = b'"msc4354_sticky_duration_ttl_ms"'
"""Of `unsigned`: ms until it is an event like any other."""
LONGEST_MS: Final = 3_600_000
_MARK: Final = b'"msc4354_sticky":'


def may_be_sticky(event: Event) -> bool:
    """Whether it is worth while to look at `duration_of`: without decoding anything."""
    return _MARK in event.pdu


def duration_of(event: Event) -> int | None:
    """For how many ms an event says that it is sticky, 0 to an hour; None: it is not. State is not, nor what is redacted."""
    if event.state_key is not None or not may_be_sticky(event):
        return None
    sticky = event.fields.get(KEY)
    duration = sticky.get("duration_ms") if isinstance(sticky, Mapping) else None
    if not isinstance(duration, int) or isinstance(duration, bool) or not 0 <= duration <= LONGEST_MS:
        return None
    return duration


def end_of(event: Event, received_ms: int) -> int:
    """Unix ms at which it is no longer sticky; 0: it is not. `received_ms`: when it came here: who says that it was sent in the
    future gains nothing.
    """
    duration = duration_of(event)
    return 0 if duration is None else min(received_ms, event.origin_server_ts) + duration
