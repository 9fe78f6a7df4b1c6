"""The endpoint that walks through a space.

spec: client-server-api/#spaces
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import RoomId, ServerName, domain_of, is_server_name
from homeserver.spaces.children import MAX_VIA
from homeserver.spaces.service import MAX_LIMIT, SpaceHierarchy
from homeserver.spaces.types import Options, SpaceRoom
from homeserver.spaces.walk import Walk
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Name, Path, Query, endpoint

DEFAULT_LIMIT: Final = 50
MAX_DEPTH: Final = 100
_PATHS: Final = (
    "/_matrix/client/v1/rooms/{roomId}/hierarchy",
    "/_matrix/client/unstable/org.matrix.msc2946/rooms/{roomId}/hierarchy",
)


class Hierarchy(msgspec.Struct, omit_defaults=True):
    """spec: op:getSpaceHierarchy."""

    rooms: list[SpaceRoom]
    next_batch: str | None = None


class SpacesApi:
    """Rooms under a room."""

    def __init__(self, hierarchy: SpaceHierarchy) -> None:
        self._hierarchy = hierarchy

    @endpoint("getSpaceHierarchy", "GET", _PATHS, auth=Auth.GUEST_ALLOWED)
    async def hierarchy(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        suggested_only: Query[bool] = False,
        limit: Query[int] = DEFAULT_LIMIT,
        max_depth: Query[int] = MAX_DEPTH,
        from_: Query[str | None] = None,
        via: Annotated[Query[list[str]], Name("via", "org.matrix.msc4235.via")] = [],  # noqa: B006  # never changed
    ) -> Hierarchy:
        """Lists the rooms under a room, depth first."""
        if limit < 1:
            raise InvalidParam("limit: at least one room")
        if max_depth < 0:
            raise InvalidParam("max_depth: must not be negative")
        options = Options(suggested_only, min(max_depth, MAX_DEPTH))
        most = min(limit, MAX_LIMIT)
        if from_ is not None:
            page = await self._hierarchy.next(requester, from_, room_id, options, most)
        else:
            begun = Walk.begin(room_id, _servers(room_id, via), options)
            page = await self._hierarchy.first(requester, begun, most)
        return Hierarchy(page.rooms, page.next_batch)


def _servers(room_id: RoomId, via: list[str]) -> list[ServerName]:
    """Who may know a room that is not here: those that the client names (MSC4235), and the server in its ID."""
    named = dict.fromkeys([*via[:MAX_VIA], domain_of(room_id)])
    return [ServerName(server) for server in named if is_server_name(server)]
