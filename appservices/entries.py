"""The log entry by which every process learns that a service was registered or removed in the database."""

from __future__ import annotations

from homeserver.log.entries import Entry, StructSink


class AppservicesChanged(Entry, frozen=True):
    """What the table `appservices` says is another."""

    service_id: str


class AppservicesChangedSink(StructSink[AppservicesChanged]):
    """Nothing but the feed: the table is written alongside."""

    kind = "appservices"
    entry_type = AppservicesChanged
