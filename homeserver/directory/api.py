"""Endpoints of the list of published rooms and of the search for people.

spec: client-server-api/#published-room-directory, #user-directory
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from homeserver.directory.listing import ListBody, RoomList, list_rooms
from homeserver.directory.people import DEFAULT_LIMIT, PeopleSearch
from homeserver.directory.ports import RemoteDirectories
from homeserver.directory.service import RoomDirectory
from homeserver.directory.summaries import RoomSummaries
from homeserver.directory.types import FoundUser, RoomSummary
from homeserver.matrix.errors import InvalidParam, NotFound
from homeserver.matrix.ids import RoomId, ServerName, domain_of, is_server_name
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
MAX_VIA: Final = 5
"""Servers that are asked for one room."""


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
        self._remote: RemoteDirectories | None = None

    def ask_with(self, remote: RemoteDirectories) -> None:
        """Who asks other servers for their lists."""
        self._remote = remote

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
        located = await self._aliases.locate(room_id_or_alias)
        named = dict.fromkeys([*via[:MAX_VIA], *located.servers[:MAX_VIA], domain_of(located.room_id)])
        servers = [ServerName(name) for name in named if is_server_name(name) and name != self._server_name]
        return await self._summaries.of(requester, located.room_id, servers)

    async def _list(self, requester: Requester | None, body: ListBody, server: str | None) -> RoomList:
        self._rooms.require_reader(requester)
        if server is None or server == self._server_name:
            return await list_rooms(self._rooms, body)
        if not is_server_name(server):
            raise InvalidParam("server: not a server name")
        if self._remote is None:
            raise NotFound("This server knows no other servers' rooms")
        return await self._remote.list_rooms(ServerName(server), body)
