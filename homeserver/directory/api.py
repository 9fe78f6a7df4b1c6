"""Endpoints of the list of published rooms and of the search for people.

spec: client-server-api/#published-room-directory, #user-directory
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from homeserver.directory.people import DEFAULT_LIMIT, PeopleSearch
from homeserver.directory.service import RoomDirectory
from homeserver.directory.summaries import RoomSummaries
from homeserver.directory.types import FoundUser, Place, PublishedRoom, RoomSummary, Wanted
from homeserver.matrix.errors import InvalidParam, NotFound
from homeserver.matrix.folding import words
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.rooms.aliases import AliasService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, Query, endpoint

_LIST: Final = "/_matrix/client/{v}/publicRooms"
_ROOM: Final = "/_matrix/client/{v}/directory/list/room/{roomId}"
_SUMMARY: Final = (
    "/_matrix/client/v1/room_summary/{roomIdOrAlias}",
    "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}",
    "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
)
MAX_LIMIT: Final = 500
DEFAULT_PAGE: Final = 100
_TOKEN: Final = re.compile(r"p([0-9]{1,9})(?:_([0-9a-f]{32}))?", re.ASCII)


class Filter(msgspec.Struct):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class ListBody(msgspec.Struct):
    """spec: op:queryPublicRooms."""

    limit: int | None = None
    since: str | None = None
    filter: Filter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class RoomList(msgspec.Struct, omit_defaults=True):
    """spec: definitions/public_rooms_response."""

    chunk: list[PublishedRoom]
    next_batch: str | None = None
    prev_batch: str | None = None
    total_room_count_estimate: int | None = None


class Visibility(msgspec.Struct):
    visibility: Literal["public", "private"]


class VisibilityBody(msgspec.Struct):
    """spec: op:setRoomVisibilityOnDirectory."""

    visibility: Literal["public", "private"] = "public"


class SearchBody(msgspec.Struct):
    """spec: op:searchUserDirectory."""

    search_term: str
    limit: int = DEFAULT_LIMIT


class Found(msgspec.Struct):
    results: list[FoundUser]
    limited: bool


class DirectoryApi:
    """Finding rooms and people."""

    def __init__(
        self,
        rooms: RoomDirectory,
        summaries: RoomSummaries,
        aliases: AliasService,
        people: PeopleSearch,
        server_name: ServerName,
    ) -> None:
        self._rooms = rooms
        self._summaries = summaries
        self._aliases = aliases
        self._people = people
        self._server_name = server_name

    @endpoint("getPublicRooms", "GET", _LIST, auth=Auth.OPTIONAL, limit="search")
    async def list_rooms(
        self,
        requester: Requester | None,
        limit: Query[int | None] = None,
        since: Query[str | None] = None,
        server: Query[str | None] = None,
    ) -> RoomList:
        """Lists published rooms."""
        return await self._list(requester, ListBody(limit=limit, since=since), server)

    @endpoint("queryPublicRooms", "POST", _LIST, auth=Auth.GUEST_ALLOWED, limit="search", when_suspended=True)
    async def query_rooms(
        self, requester: Requester, body: Body[ListBody], server: Query[str | None] = None
    ) -> RoomList:
        """Searches the published rooms."""
        return await self._list(requester, body, server)

    @endpoint("getRoomVisibilityOnDirectory", "GET", _ROOM, auth=Auth.NONE, limit="search")
    async def visibility(self, room_id: Path[RoomId]) -> Visibility:
        """Tells whether a room is in the list."""
        return Visibility("public" if await self._rooms.is_published(room_id) else "private")

    @endpoint("setRoomVisibilityOnDirectory", "PUT", _ROOM, auth=Auth.USER)
    async def set_visibility(
        self, requester: Requester, room_id: Path[RoomId], body: Body[VisibilityBody]
    ) -> EmptyObject:
        """Puts a room into the list, or takes it out."""
        await self._rooms.set_published(requester, room_id, published=body.visibility == "public")
        return EmptyObject()

    @endpoint(
        "searchUserDirectory",
        "POST",
        "/_matrix/client/{v}/user_directory/search",
        auth=Auth.USER,
        limit="search",
        when_suspended=True,
    )
    async def search_people(self, requester: Requester, body: Body[SearchBody]) -> Found:
        """Searches for people by name or id."""
        return Found(*await self._people.find(requester, body.search_term, body.limit))

    @endpoint("getRoomSummary", "GET", _SUMMARY, auth=Auth.OPTIONAL, limit="search")
    async def summary(
        self,
        requester: Requester | None,
        room_id_or_alias: Path[str],
        via: Query[list[str]] = [],  # noqa: B006  # never changed
    ) -> RoomSummary:
        """Tells what a room is, in short."""
        del via  # servers to ask, once there are others
        return await self._summaries.of(requester, await self._aliases.resolve(room_id_or_alias))

    async def _list(self, requester: Requester | None, body: ListBody, server: str | None) -> RoomList:
        self._rooms.require_reader(requester)
        if server is not None and server != self._server_name:
            raise NotFound("This server knows no other servers' rooms")
        limit = min(body.limit if body.limit is not None and body.limit > 0 else DEFAULT_PAGE, MAX_LIMIT)
        page = await self._rooms.page(_wanted(body), _place(body.since), limit)
        start, order = page.place
        return RoomList(
            chunk=page.rooms,
            next_batch=_token(page.end, order) if page.end < page.total else None,
            prev_batch=_token(max(0, start - limit), order) if start else None,
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
