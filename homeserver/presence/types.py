"""Presence as a log entry."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from homeserver.log.entries import Entry, Position
from homeserver.matrix.ids import UserId


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
    said: bool = False
    """Whether the user has said so: then what their devices said before does not count any more."""
    built_on: Position | None = None
    """Where the presence stands that this one was made from, 0 if there was none; None: it replaces whatever there is."""


class Latest(NamedTuple):
    """What of a batch becomes of a user's row."""

    position: Position
    entry: PresenceEntry
    last_active_ms: int


class Heard(NamedTuple):
    """What another server says of a user of its own."""

    user_id: UserId
    presence: str
    status_msg: str | None
    active_ago_ms: int
