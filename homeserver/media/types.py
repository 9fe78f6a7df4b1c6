"""What is known of a file, apart from what it holds.

spec: client-server-api/#content-repository
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from homeserver.jobs.types import JobKind

LEAST_CHARGED: Final = 4096
"""Bytes that a file counts against a quota at least: what it takes on a disk."""


class Origin(enum.IntEnum):
    """Where a file is from; the numbers stand in the database."""

    LOCAL = 0
    """A user of this server."""
    REMOTE = 1
    """Another server: a copy."""
    PREVIEW = 2
    """A web page somebody asked a preview of."""


class Blob(NamedTuple):
    """What one or several files hold."""

    blob_nid: int
    key: str
    """In the blob store."""


class Media(NamedTuple):
    """One file: a row of `media` with its blob, if it was uploaded."""

    media_nid: int
    server_name: str
    media_id: str
    uploader_nid: int | None
    content_type: str
    filename: str | None
    created_ms: int
    expires_ms: int | None
    origin: int
    authenticated: bool
    quarantined_by: str | None
    blob_nid: int | None
    key: str | None
    size: int | None
    sha256: bytes | None
    verdict: str | None


class Stored(NamedTuple):
    """A file that was uploaded: all that it takes to deliver it."""

    media: Media
    blob_nid: int
    key: str
    size: int
    """Bytes."""
    sha256: bytes


class ThumbnailBox(NamedTuple):
    """What a thumbnail has to fit into (scale) or to fill (crop), in pixels."""

    width: int
    height: int
    crop: bool
    animated: bool


class KeptThumbnail(NamedTuple):
    """A thumbnail that was made."""

    key: str | None
    """In the blob store; None: the original is no larger than the box, and serves."""
    content_type: str
    size: int
    """Bytes."""


class Unkept(NamedTuple):
    """A file whose row is gone."""

    server_name: str
    media_id: str
    blob_nid: int | None
    uploader_nid: int | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Received:
    """A whole body on this machine's disk, on its way into the blob store."""

    path: Path
    sha256: bytes
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMedia:
    """A file that is about to be kept."""

    server_name: str
    media_id: str
    uploader_nid: int | None
    content_type: str
    filename: str | None
    origin: Origin
    authenticated: bool


class DoomedBlobs(msgspec.Struct):
    """Keys of the blob store that nothing refers to any more."""

    keys: list[str]


DELETE_BLOBS: Final = JobKind("media.delete_blobs", DoomedBlobs, at_once=2, timeout=120.0)


def charged(size: int) -> int:
    """What a file of so many bytes counts against a quota."""
    return max(size, LEAST_CHARGED)
