"""What incoming webhooks are: a hook, what is known of it, and the work that its making leaves to the server."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from homeserver.jobs.types import JobKind, Retry
from homeserver.matrix.ids import RoomId, UserId

PATH: Final = "/_atrium/hooks/"
"""What stands before the secret in the address of a hook."""


class Hook(NamedTuple):
    """A hook; columns in the order of `store.COLUMNS`."""

    hook_id: str
    """Public: it names the hook in commands, and its user."""
    user_nid: int
    user_id: UserId
    """Who says what is posted."""
    room_id: RoomId
    made_by_nid: int
    """Who has invited that user."""
    made_by: UserId
    name: str
    created_ms: int
    last_used_ms: int | None


class JoinHook(msgspec.Struct, frozen=True):
    """The hook's user is to come into the room."""

    hook_id: str


JOIN: Final = JobKind("hooks.join", JoinHook, retry=Retry(first=1.0, longest=60.0, attempts=8))


def digest_of(secret: str) -> bytes:
    """What is kept of a secret. It is long and random: a plain hash cannot be tried out."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
