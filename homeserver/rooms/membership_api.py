"""Endpoints of creation and membership.

spec: client-server-api/#creation, #room-membership
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from homeserver.events.ended_stays import REDACT_EVENTS
from homeserver.matrix.errors import Forbidden, MissingParam
from homeserver.matrix.ids import RoomId, ServerName, UserId, is_server_name, user_id
from homeserver.rooms.aliases import AliasService
from homeserver.rooms.by_address import InvitesByAddress
from homeserver.rooms.creation import CreateRoom, CreationService
from homeserver.rooms.membership import MembershipService
from homeserver.rooms.reading import ReadingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint

ROOM = "/_matrix/client/{v}/rooms/{roomId}"
MAX_VIA = 20
"""Servers that a client may name."""


class RoomIdResponse(msgspec.Struct):
    """Which room."""

    room_id: RoomId


class JoinedRooms(msgspec.Struct):
    """Rooms the user is joined to."""

    joined_rooms: list[RoomId]


class Target(msgspec.Struct):
    """Whom an act concerns, and why."""

    user_id: str
    reason: str | None = None

    def whom(self) -> UserId:
        """Raises `InvalidParam`."""
        return user_id(self.user_id)


class Removed(msgspec.Struct):
    """Who is kicked or banned, and why."""

    user_id: str
    reason: str | None = None
    redact_events: bool = msgspec.field(default=False, name=REDACT_EVENTS)
    """Whether what they have said goes, too. spec: MSC4293"""

    def whom(self) -> UserId:
        """Raises `InvalidParam`."""
        return user_id(self.user_id)

    @property
    def fields(self) -> dict[str, Any]:
        """What else the event says."""
        return {REDACT_EVENTS: True} if self.redact_events else {}


class InviteTarget(msgspec.Struct):
    """Somebody by user id, or by an address."""

    user_id: str | None = None
    reason: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None
    medium: str | None = None
    address: str | None = None

    @property
    def by_address(self) -> bool:
        """Whether it is an address that is invited."""
        return self.user_id is None and self.address is not None

    def whom(self) -> UserId:
        """Raises `InvalidParam`, `MissingParam`."""
        if self.user_id is not None:
            return user_id(self.user_id)
        raise MissingParam("Missing required key: user_id")


class Reason(msgspec.Struct):
    """Why."""

    reason: str | None = None


class MembershipApi:
    """Creating rooms, coming and going."""

    def __init__(
        self,
        creation: CreationService,
        membership: MembershipService,
        aliases: AliasService,
        reading: ReadingService,
    ) -> None:
        self._creation = creation
        self._membership = membership
        self._aliases = aliases
        self._reading = reading
        self._by_address: InvitesByAddress | None = None

    def invite_with(self, by_address: InvitesByAddress) -> None:
        """Plug in who invites by address."""
        self._by_address = by_address

    @endpoint("createRoom", "POST", "/_matrix/client/{v}/createRoom", auth=Auth.USER, limit="room")
    async def create_room(self, requester: Requester, body: Body[CreateRoom]) -> RoomIdResponse:
        return RoomIdResponse(await self._creation.create(requester, body))

    @endpoint(
        "joinRoom", "POST", "/_matrix/client/{v}/join/{roomIdOrAlias}", auth=Auth.GUEST_ALLOWED, limit="join"
    )
    async def join(
        self,
        requester: Requester,
        room_id_or_alias: Path[str],
        body: Body[dict[str, Any]] = {},  # noqa: B006  # never changed
        via: Query[list[str]] = [],  # noqa: B006  # never changed
        server_name: Query[list[str]] = [],  # noqa: B006  # the name of `via` before 1.14
    ) -> RoomIdResponse:
        found = await self._aliases.locate(room_id_or_alias)
        servers = _servers(via, server_name, found.servers)
        return RoomIdResponse(await self._membership.join(requester, found.room_id, body, servers))

    @endpoint("joinRoomById", "POST", ROOM + "/join", auth=Auth.GUEST_ALLOWED, limit="join")
    async def join_by_id(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        body: Body[dict[str, Any]] = {},  # noqa: B006  # never changed
        via: Query[list[str]] = [],  # noqa: B006  # never changed; beyond the specification, as others have it
        server_name: Query[list[str]] = [],  # noqa: B006  # likewise
    ) -> RoomIdResponse:
        servers = _servers(via, server_name, ())
        return RoomIdResponse(await self._membership.join(requester, room_id, body, servers))

    @endpoint("knockRoom", "POST", "/_matrix/client/{v}/knock/{roomIdOrAlias}", auth=Auth.USER, limit="join")
    async def knock(
        self,
        requester: Requester,
        room_id_or_alias: Path[str],
        body: Body[Reason],
        via: Query[list[str]] = [],  # noqa: B006  # never changed
        server_name: Query[list[str]] = [],  # noqa: B006  # the name of `via` before 1.14
    ) -> RoomIdResponse:
        found = await self._aliases.locate(room_id_or_alias)
        servers = _servers(via, server_name, found.servers)
        return RoomIdResponse(await self._membership.knock(requester, found.room_id, body.reason, servers))

    @endpoint("inviteUser", "POST", ROOM + "/invite", auth=Auth.USER, limit="invite")
    async def invite(self, requester: Requester, room_id: Path[RoomId], body: Body[InviteTarget]) -> None:
        if body.by_address and self._by_address is not None:
            wish = self._by_address.read(msgspec.structs.asdict(body))
            await self._by_address.invite(requester, room_id, wish, body.reason)
            return
        if body.by_address:
            raise Forbidden("This server invites nobody by address")
        await self._membership.invite(requester, room_id, body.whom(), body.reason)

    @endpoint("leaveRoom", "POST", ROOM + "/leave", auth=Auth.GUEST_ALLOWED, when_suspended=True)
    async def leave(self, requester: Requester, room_id: Path[RoomId], body: Body[Reason]) -> None:
        await self._membership.leave(requester, room_id, body.reason)

    @endpoint("forgetRoom", "POST", ROOM + "/forget", auth=Auth.GUEST_ALLOWED, when_suspended=True)
    async def forget(self, requester: Requester, room_id: Path[RoomId]) -> None:
        await self._membership.forget(requester, room_id)

    @endpoint("kick", "POST", ROOM + "/kick", auth=Auth.USER)
    async def kick(self, requester: Requester, room_id: Path[RoomId], body: Body[Removed]) -> None:
        await self._membership.kick(requester, room_id, body.whom(), body.reason, body.fields)

    @endpoint("ban", "POST", ROOM + "/ban", auth=Auth.USER)
    async def ban(self, requester: Requester, room_id: Path[RoomId], body: Body[Removed]) -> None:
        await self._membership.ban(requester, room_id, body.whom(), body.reason, body.fields)

    @endpoint("unban", "POST", ROOM + "/unban", auth=Auth.USER)
    async def unban(self, requester: Requester, room_id: Path[RoomId], body: Body[Target]) -> None:
        await self._membership.unban(requester, room_id, body.whom(), body.reason)

    @endpoint("getJoinedRooms", "GET", "/_matrix/client/{v}/joined_rooms", auth=Auth.GUEST_ALLOWED)
    async def joined_rooms(self, requester: Requester) -> JoinedRooms:
        return JoinedRooms(await self._reading.joined_rooms(requester))


def _servers(via: list[str], server_name: list[str], more: Sequence[ServerName]) -> list[ServerName]:
    """Which servers may know a room: those the client names, and those that an alias has told. What is no name is passed over."""
    named = [ServerName(each) for each in (*via, *server_name)[:MAX_VIA] if is_server_name(each)]
    return list(dict.fromkeys([*named, *more]))
