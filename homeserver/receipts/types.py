"""A receipt as a log entry."""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.log.entries import Entry
from homeserver.matrix.ids import UserId

READ: Final = 1
PRIVATE: Final = 2
NAMES: Final = {READ: "m.read", PRIVATE: "m.read.private"}
UNTHREADED: Final = ""


class ReceiptEntry(Entry, frozen=True):
    """A user has read up to an event."""

    room_nid: int
    user_nid: int
    user_id: str
    type: int
    thread: str
    """UNTHREADED, "main", or the root's event id."""
    event_nid: int
    event_id: str
    ts_ms: int


class RemoteReceipt(NamedTuple):
    """A public receipt of another server's user, who is in the room."""

    user_id: UserId
    user_nid: int
    event_id: str
    thread: str | None
    """None: of all threads together."""
    ts_ms: int
    """As that server says, Unix ms."""
