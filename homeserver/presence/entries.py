"""Presence as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from typing_extensions import override

from homeserver.log.entries import Entry, StructSink, Written
from homeserver.presence import store
from homeserver.storage.tx import Pipeline


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a device says of its user by syncing."""

    device: str
    presence: str
    heard_ms: int
    """Unix ms."""


class PresenceEntry(Entry, frozen=True):
    """A user's presence is another; or (`beat`) still the same, so that other processes know who is about, and what by."""

    user_nid: int
    user_id: str
    presence: str
    status_msg: str | None
    last_active_ms: int
    beat: bool = False
    word: Word | None = None
    """What has led to it, if it was a sync."""


class PresenceSink(StructSink[PresenceEntry]):
    """Into `presence`; of several in one batch the last counts."""

    kind = "presence"
    entry_type = PresenceEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[PresenceEntry]]) -> None:
        last = {entry.user_nid: (position, entry) for position, entry in written}
        store.upsert(batch, list(last.values()))
