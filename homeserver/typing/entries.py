"""Typing as a log entry. Nothing is stored: who types is of no interest after a restart."""

from __future__ import annotations

from homeserver.log.entries import Entry, StructSink


class TypingEntry(Entry, frozen=True):
    """A user has begun or ceased to type."""

    room_nid: int
    user_nid: int
    user_id: str
    typing: bool


class TypingSink(StructSink[TypingEntry]):
    """The feed alone."""

    kind = "typing"
    entry_type = TypingEntry
