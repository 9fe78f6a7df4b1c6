"""Presence as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.log.entries import Entry, StructSink, Written
from homeserver.presence import store
from homeserver.storage.tx import Pipeline


class PresenceEntry(Entry, frozen=True):
    """A user's presence is another; or (`beat`) still the same, so that other processes know they are about."""

    user_nid: int
    user_id: str
    presence: str
    status_msg: str | None
    last_active_ms: int
    beat: bool = False


class PresenceSink(StructSink[PresenceEntry]):
    """Into `presence`; of several in one batch the last counts."""

    kind = "presence"
    entry_type = PresenceEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[PresenceEntry]]) -> None:
        last = {entry.user_nid: (position, entry) for position, entry in written}
        store.upsert(batch, list(last.values()))
