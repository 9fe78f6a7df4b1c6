"""Pages of the list of published rooms, as clients and other servers ask for them.

spec: op:queryPublicRooms, definitions/public_rooms_response
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from homeserver.directory.service import RoomDirectory
from homeserver.directory.types import Place, PublishedRoom, Wanted
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.folding import words

MAX_LIMIT: Final = 500
DEFAULT_PAGE: Final = 100
_TOKEN: Final = re.compile(r"p([0-9]{1,9})(?:_([0-9a-f]{32}))?", re.ASCII)


class Filter(msgspec.Struct, omit_defaults=True):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class ListBody(msgspec.Struct, omit_defaults=True):
    """spec: op:queryPublicRooms."""

    limit: int | None = None
    since: str | None = None
    filter: Filter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None

    @property
    def most(self) -> int:
        """Rooms of the page: at least one."""
        return min(self.limit if self.limit is not None and self.limit > 0 else DEFAULT_PAGE, MAX_LIMIT)


class RoomList(msgspec.Struct, omit_defaults=True):
    """spec: definitions/public_rooms_response."""

    chunk: list[PublishedRoom]
    next_batch: str | None = None
    prev_batch: str | None = None
    total_room_count_estimate: int | None = None


async def list_rooms(directory: RoomDirectory, body: ListBody) -> RoomList:
    """The page that is asked for. Raises `InvalidParam` for a token that is none."""
    page = await directory.page(_wanted(body), _place(body.since), body.most)
    start, order = page.place
    return RoomList(
        chunk=page.rooms,
        next_batch=_token(page.end, order) if page.end < page.total else None,
        prev_batch=_token(max(0, start - body.most), order) if start else None,
        total_room_count_estimate=page.total,
    )


def _wanted(body: ListBody) -> Wanted:
    given = body.filter or Filter()
    return Wanted(
        words=words(given.generic_search_term or ""),
        types=None if given.room_types is None else frozenset(given.room_types),
        network=None if body.include_all_networks else body.third_party_instance_id or "",
    )


def _place(token: str | None) -> Place:
    if not token:
        return Place()
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam("since: not a token of this server")
    return Place(int(found[1]), found[2])


def _token(start: int, order: str | None) -> str:
    return f"p{start}" if order is None else f"p{start}_{order}"
