"""Thread subscriptions as values."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.matrix.ids import EventId


class Subscription(NamedTuple):
    """What a user has made of a thread last."""

    room_nid: int
    thread: EventId
    subscribed: bool
    automatic: bool
    position: Position
    """Of the log, when it became so."""
    unsubscribed_at: Position
    """When the user unsubscribed last; 0: never."""
