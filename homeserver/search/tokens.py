"""Where a page of results ends: what `next_batch` says.

A search ranks and counts the newest matches of a part of the log, [since, before). The token keeps these bounds, so that
what is said meanwhile moves nothing, and the place of the last result in their order. It is no secret and no proof: whatever
it says, only what the reader may see is shown.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

import msgspec

from homeserver.log.entries import Position
from homeserver.matrix.errors import InvalidParam

Order = Literal["rank", "recent"]
GroupKey = Literal["room_id", "sender"]
MAX_TOKEN = 1_000
"""Characters."""
_FARTHEST = 2**62


class Group(msgspec.Struct, frozen=True, array_like=True):
    """Results of one room, or of one sender."""

    key: GroupKey
    value: str


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where to go on."""

    order: Order
    before: Position
    since: Position | None
    """None: it is not known yet how far back the newest matches reach."""
    whole: bool
    """Nothing that matches is older than `since`."""
    count: int
    rank: float = 0.0
    nid: Position | None = None
    """The last result that was told; None: none of this part of the log."""
    group: Group | None = None


def format_place(place: Place) -> str:
    """The token."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def parse_place(token: str, order: Order) -> Place:
    """What a token says. Raises `InvalidParam` for what is none, and for one of a search in another order."""
    try:
        raw = base64.urlsafe_b64decode(token[:MAX_TOKEN].encode() + b"=" * (-len(token) % 4))
        place = msgspec.json.decode(raw, type=Place)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise InvalidParam("next_batch: not a token of this server") from None
    numbers: tuple[int, ...] = (place.before, place.since or 0, place.nid or 0, place.count)
    if place.order != order or any(abs(number) > _FARTHEST for number in numbers):
        raise InvalidParam("next_batch: not a token of this search")
    return place
