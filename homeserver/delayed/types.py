"""Delayed events as values."""

from __future__ import annotations

from typing import Literal, NamedTuple

from homeserver.matrix.ids import RoomId

Status = Literal["scheduled", "finalised"]


class NewDelayed(NamedTuple):
    """A delayed event that is to be kept. Times in ms since 1970."""

    delay_id: str
    user_nid: int
    appservice_id: str | None
    txn_hash: bytes | None
    room_id: RoomId
    type: str
    state_key: str | None
    content: bytes
    origin_server_ts: int | None
    delay_ms: int
    since_ms: int
    since_position: int
    """Of the log: what others have set before does not count."""
    sticky_ms: int | None


class Delayed(NamedTuple):
    """One that is scheduled, as its sender needs it."""

    delayed_nid: int
    delay_id: str
    user_nid: int
    appservice_id: str | None
    room_id: RoomId
    type: str
    state_key: str | None
    content: bytes
    origin_server_ts: int | None
    since_position: int
    attempts: int
    due_ms: int
    sticky_ms: int | None


class Scheduled(NamedTuple):
    """What a user has scheduled in all."""

    events: int
    content_bytes: int
    next_due_ms: int | None


class Listed(NamedTuple):
    """One as its owner is shown it."""

    delayed_nid: int
    due_ms: int
    delay_id: str
    room_id: RoomId
    type: str
    state_key: str | None
    delay_ms: int
    since_ms: int
    content: bytes
    finalised_ms: int | None
    by_action: bool | None
    event_id: str | None
    error: bytes | None


class Wanted(NamedTuple):
    """Which of one's delayed events are asked for; None: all."""

    status: Status | None = None
    delay_ids: list[str] | None = None
    room_id: RoomId | None = None
    type: str | None = None


class Page(NamedTuple):
    """Where a page begins: behind an event with this due time and number."""

    due_ms: int
    delayed_nid: int
    backwards: bool


class Outcome(NamedTuple):
    """What became of a delayed event: sent with an id, refused with an error, or (neither) cancelled by its owner."""

    by_action: bool
    event_id: str | None = None
    error: bytes | None = None
