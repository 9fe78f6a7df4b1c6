"""Endpoints that tell other servers which rooms there are.

spec: server-server-api/#querying-for-information, #public-room-directory, #spaces
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from federation.ports import Partners
from federation.queries.hierarchy import HierarchyForServers
from federation.queries.profile_api import QUERY
from homeserver.config.rooms import DirectorySection
from homeserver.directory.listing import ListBody, RoomList, list_rooms
from homeserver.directory.service import RoomDirectory
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import RoomAlias, RoomId, ServerName, domain_of, is_room_alias
from homeserver.rooms.aliases import AliasService
from homeserver.spaces.types import Branch
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Body, Path, Query, endpoint

_LIST: Final = "/_matrix/federation/v1/publicRooms"
_HIERARCHY: Final = (
    "/_matrix/federation/v1/hierarchy/{roomId}",
    "/_matrix/federation/unstable/org.matrix.msc2946/hierarchy/{roomId}",
)


class RoomOfAlias(msgspec.Struct):
    """spec: op:queryRoomDirectory."""

    room_id: RoomId
    servers: list[ServerName]


class RoomQueryApi:
    """Aliases, the list of rooms, and rooms under rooms."""

    def __init__(
        self,
        aliases: AliasService,
        directory: RoomDirectory,
        hierarchy: HierarchyForServers,
        config: DirectorySection,
        partners: Partners,
    ) -> None:
        self._partners = partners
        self._aliases = aliases
        self._directory = directory
        self._hierarchy = hierarchy
        self._list_is_open = config.read_over_federation and config.read != "nobody"

    @endpoint("queryRoomDirectory", "GET", f"{QUERY}/directory", auth=Auth.SERVER)
    async def alias(self, origin: Origin, room_alias: Query[str]) -> RoomOfAlias:
        """Tells which room an alias of this server names (FED-36)."""
        if not is_room_alias(room_alias) or domain_of(room_alias) != self._aliases.server_name:
            raise InvalidParam("room_alias: not an alias of this server")
        located = await self._aliases.local(RoomAlias(room_alias))
        if not await self._partners.may_share(origin.server_name, located.room_id):
            self._partners.refused(origin.server_name, "room", located.room_id)
            raise NotFound("There is no such alias")
        return RoomOfAlias(located.room_id, list(located.servers))

    @endpoint("getPublicRooms", "GET", _LIST, auth=Auth.SERVER)
    async def public_rooms(
        self,
        origin: Origin,
        limit: Query[int | None] = None,
        since: Query[str | None] = None,
        include_all_networks: Query[bool] = False,
        third_party_instance_id: Query[str | None] = None,
    ) -> RoomList:
        """Lists published rooms (FED-37)."""
        return await self.search_rooms(
            origin,
            ListBody(
                limit=limit,
                since=since,
                include_all_networks=include_all_networks,
                third_party_instance_id=third_party_instance_id,
            ),
        )

    @endpoint("queryPublicRooms", "POST", _LIST, auth=Auth.SERVER)
    async def search_rooms(self, origin: Origin, body: Body[ListBody]) -> RoomList:
        """Searches published rooms (FED-37): of those alone that it may share the asking server learns."""
        if not self._list_is_open:
            raise Forbidden("This server does not show its list of rooms to others")
        found = await list_rooms(self._directory, body)
        shared = [
            each for each in found.chunk if await self._partners.may_share(origin.server_name, each.room_id)
        ]
        return structs.replace(found, chunk=shared)

    @endpoint("getSpaceHierarchy", "GET", _HIERARCHY, auth=Auth.SERVER)
    async def hierarchy(
        self, origin: Origin, room_id: Path[RoomId], suggested_only: Query[bool] = False
    ) -> Branch:
        """Tells of a room and of those right under it (FED-38)."""
        return await self._hierarchy.branch(origin.server_name, room_id, suggested_only=suggested_only)
