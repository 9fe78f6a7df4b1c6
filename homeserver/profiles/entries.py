"""The log entry of a changed profile, for caches, the user directory and whoever shows profiles as they are now."""

from __future__ import annotations

from homeserver.log.entries import Entry, StructSink
from homeserver.matrix.ids import UserId


class ProfileChanged(Entry, frozen=True):
    """A field of a local user's profile was set or removed; or, without `key`, the whole profile was removed."""

    user_nid: int
    user_id: UserId
    key: str | None
    value: bytes | None
    """JSON; None: removed."""


class ProfileChangedSink(StructSink[ProfileChanged]):
    """Nothing but the feed: the table is written alongside."""

    kind = "profile"
    entry_type = ProfileChanged
