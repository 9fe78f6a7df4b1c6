"""Pushers as values, and the log entry by which processes learn that a user has others."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from homeserver.log.entries import Entry, StructSink

HTTP = "http"
EMAIL = "email"
MAIL_APP = "m.email"
"""The app_id of pushers of kind `email`."""
MAILTO = "mailto:"
"""What their `url` begins with; the address follows."""
MAX_PUSHERS = 50
"""Of one user."""


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a pusher for the client that lists it and for its gateway."""

    app_display_name: str
    device_display_name: str
    lang: str
    data: dict[str, Any]
    """As the client gave it, without `url`: custom keys are the gateway's."""
    profile_tag: str | None = None


class Pusher(NamedTuple):
    """A pusher as stored."""

    user_nid: int
    app_id: str
    pushkey: str
    kind: str
    device_id: str | None
    enabled: bool
    set_ms: int
    """When it was set last, Unix ms."""
    url: str
    """The gateway's, or `mailto:` and the address."""
    details: Details

    @property
    def event_id_only(self) -> bool:
        """Whether the gateway is told no more of an event than where it is. spec: op:postPusher `data.format`"""
        return self.details.data.get("format") == "event_id_only"


class PushersChanged(Entry, frozen=True):
    """A user has other pushers than before."""

    user_nid: int


class PushersChangedSink(StructSink[PushersChanged]):
    """Nothing but the feed: the table is written alongside."""

    kind = "pushers"
    entry_type = PushersChanged
