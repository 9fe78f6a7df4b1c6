"""What is staged, and what a transaction becomes."""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.events.event import Event
from homeserver.matrix.ids import EventId, ServerName

MAX_PDUS: Final = 50
MAX_EDUS: Final = 100
"""Of a transaction. spec: server-server-api/#transactions (FED-08)"""


class Pdu(NamedTuple):
    """An event of a transaction that may be staged."""

    room_nid: int
    event: Event
    """Of the right format; nothing else is checked."""


class Staged(NamedTuple):
    """A row of `federation_staged`."""

    staged_nid: int
    origin: ServerName
    event_id: EventId
    pdu: bytes
    """Canonical JSON."""
    attempts: int
    event: Event | None = None
    """The same, where it was read in this process just now."""


class Deferred(NamedTuple):
    """What has to be tried again later."""

    staged_nid: int
    attempts: int
    """Failed ones, with the last."""
    pause: float
    """Seconds."""
    lacks_prev: list[EventId]
    """What it waits for, of its previous events; empty where they are not what is missing."""
    lacks_auth: list[EventId]
    """Likewise, of its auth events."""


class RoomStaged(NamedTuple):
    """What a transaction has added to a room."""

    room_nid: int
    owner: str | None
    """The process that works on the room."""
    version: int
    rows: list[Staged]


class Answered(NamedTuple):
    """A transaction that is durably staged now, or was before."""

    rooms: list[RoomStaged]
    repeated: bytes | None
    """The answer that it was given before; None: it is new."""


class Full(Exception):
    """The origin has as much staged as it may."""
