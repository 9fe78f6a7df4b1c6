"""Mails about what is unread, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from homeserver.jobs.types import JobKind, Retry
from homeserver.log.entries import Position

MAX_ROOMS: Final = 10
"""Rooms that a letter shows; of others it says how many there are."""
MAX_MESSAGES: Final = 5
"""Of a room, the newest."""
MAX_TEXT: Final = 400
"""Characters of a message."""
MAX_NAME: Final = 80
"""Characters of the name of a person or a room."""


@dataclass(frozen=True, slots=True)
class MailSettings:
    """What the administrator has decided. Durations in seconds."""

    delay: float
    """How long something must be unread before a letter tells of it."""
    pause: float
    """How long after a letter a room alone is no reason for another; longer each time until what was told is read."""
    content: bool
    """Whether letters say what messages say."""


class DigestOrder(msgspec.Struct, frozen=True):
    """Look whether a letter is due, and send it."""

    user_nid: int
    address: str
    run: int
    """See `mail_digests.run`."""


DIGEST: Final = JobKind(
    "push.mail",
    DigestOrder,
    Retry(first=30.0, factor=3.0, longest=3_600.0, attempts=10),
    timeout=300.0,
)


class Digest(NamedTuple):
    """How far the letters to an address are."""

    user_nid: int
    address: str
    since: Position
    run: int
    seen_upto: Position
    letter_upto: Position | None
    hour_ms: int
    letters: int


class RoomTold(NamedTuple):
    """What of a room letters have told."""

    room_nid: int
    told_upto: Position
    sent_ms: int
    pause_ms: int


class Message(NamedTuple):
    """A message as a letter shows it: plain text, bounded, without controls but line ends."""

    event_id: str
    sender: str
    """What its sender is called."""
    text: str | None
    """None: what it says is not told."""
    kind: str
    """What is said of it otherwise: a name of `words.Words`."""
    sent_ms: int


class RoomPart(NamedTuple):
    """A room in a letter."""

    room_id: str
    name: str | None
    """None: it has none, and nobody else is there."""
    messages: list[Message]
    """The newest, in order."""
    more: int
    """Others, before them."""
    invite: bool


class Contents(NamedTuple):
    """What a letter tells."""

    rooms: list[RoomPart]
    """Those with the newest messages first."""
    more_rooms: int
