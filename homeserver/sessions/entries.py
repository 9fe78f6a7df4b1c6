"""The log entry by which every process learns that what it remembers of a session is out of date."""

from __future__ import annotations

from homeserver.log.entries import Entry, StructSink


class SessionsChanged(Entry, frozen=True):
    """Tokens of a user (of one device, or all) were ended, or the account's state is another."""

    user_nid: int
    device_id: str | None = None
    """None: all of the user's."""


class SessionsChangedSink(StructSink[SessionsChanged]):
    """Nothing but the feed: the tables are written alongside."""

    kind = "sessions"
    entry_type = SessionsChanged
