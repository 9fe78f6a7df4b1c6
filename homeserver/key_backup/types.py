"""Backups as the API speaks of them."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

Index = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class KeyData(msgspec.Struct):
    """A session's key: how good it is, and the encrypted rest."""

    first_message_index: Index
    forwarded_count: Index
    is_verified: bool
    session_data: dict[str, Any]


class RoomKeys(msgspec.Struct):
    """Sessions of a room."""

    sessions: dict[str, KeyData]


class AllKeys(msgspec.Struct):
    """Rooms of a backup."""

    rooms: dict[str, RoomKeys]


class Updated(msgspec.Struct):
    """What the backup is after a change."""

    etag: str
    count: int


class VersionBody(msgspec.Struct):
    """A new or changed version."""

    algorithm: str
    """Any: to a server backups are opaque, and new algorithms come."""
    auth_data: dict[str, Any]
    version: str | None = None


class VersionInfo(msgspec.Struct):
    """A version."""

    algorithm: str
    auth_data: msgspec.Raw
    count: int
    etag: str
    version: str


class Row(NamedTuple):
    """A session's key as it is stored."""

    room_id: str
    session_id: str
    is_verified: bool
    first_message_index: int
    forwarded_count: int
    session_data: bytes
