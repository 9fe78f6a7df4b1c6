"""A receipt as a log entry."""

from __future__ import annotations

from typing import Final

from homeserver.log.entries import Entry

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
