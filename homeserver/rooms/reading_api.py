"""Endpoints that read rooms.

spec: client-server-api/#getting-events-for-a-room
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeserver.events.filtering import RoomEventFilter, read_room_event_filter
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId, RoomAlias, RoomId, ServerName
from homeserver.matrix.tokens import parse_token
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.aliases import AliasService
from homeserver.rooms.history import HistoryService
from homeserver.rooms.reading import ReadingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson

ROOM = "/_matrix/client/{v}/rooms/{roomId}"
DEFAULT_LIMIT = 10
Membership = Literal["join", "invite", "knock", "leave", "ban"]


class RoomOfAlias(msgspec.Struct):
    """Where an alias points."""

    room_id: RoomId
    servers: list[ServerName]


class Aliases(msgspec.Struct):
    """Aliases of a room."""

    aliases: list[RoomAlias]


class RoomIdBody(msgspec.Struct):
    """Which room."""

    room_id: RoomId


class ReadingApi:
    """State, members, history."""

    def __init__(self, reading: ReadingService, history: HistoryService) -> None:
        self._reading = reading
        self._history = history

    @endpoint("getRoomState", "GET", ROOM + "/state", auth=Auth.GUEST_ALLOWED)
    async def state(self, requester: Requester, room_id: Path[RoomId]) -> RawJson:
        return RawJson(await self._reading.state(requester, room_id))

    @endpoint("getRoomStateWithKey", "GET", ROOM + "/state/{eventType}/{stateKey}", auth=Auth.GUEST_ALLOWED)
    async def state_with_key(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        state_key: Path[str],
        format: Query[Literal["content", "event"]] = "content",  # noqa: A002  # the specification's name
    ) -> RawJson:
        whole = format == "event"
        return RawJson(
            await self._reading.state_event(requester, room_id, (event_type, state_key), whole=whole)
        )

    @endpoint(
        "getRoomStateWithoutKey",
        "GET",
        [ROOM + "/state/{eventType}", ROOM + "/state/{eventType}/"],
        auth=Auth.GUEST_ALLOWED,
    )
    async def state_without_key(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        format: Query[Literal["content", "event"]] = "content",  # noqa: A002  # the specification's name
    ) -> RawJson:
        whole = format == "event"
        return RawJson(await self._reading.state_event(requester, room_id, (event_type, ""), whole=whole))

    @endpoint("getMembersByRoom", "GET", ROOM + "/members", auth=Auth.GUEST_ALLOWED)
    async def members(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        at: Query[str | None] = None,
        membership: Query[Membership | None] = None,
        not_membership: Query[Membership | None] = None,
    ) -> RawJson:
        members = await self._reading.members(
            requester,
            room_id,
            at=parse_token(at, "at") if at is not None else None,
            membership=membership,
            not_membership=not_membership,
        )
        return RawJson(members)

    @endpoint("getJoinedMembersByRoom", "GET", ROOM + "/joined_members", auth=Auth.GUEST_ALLOWED)
    async def joined_members(self, requester: Requester, room_id: Path[RoomId]) -> RawJson:
        return RawJson(await self._reading.joined_members(requester, room_id))

    @endpoint("getOneRoomEvent", "GET", ROOM + "/event/{eventId}", auth=Auth.GUEST_ALLOWED)
    async def event(self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId]) -> RawJson:
        return RawJson(await self._reading.event(requester, room_id, event_id))

    @endpoint("getRoomEvents", "GET", ROOM + "/messages", auth=Auth.GUEST_ALLOWED)
    async def messages(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # the specification's name; required there, defaulted in practice
        from_: Query[str | None] = None,
        to: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
        filter: Query[str | None] = None,  # noqa: A002  # the specification's name
    ) -> RawJson:
        page = await self._history.messages(
            requester,
            room_id,
            start=parse_token(from_, "from") if from_ is not None else None,
            stop=parse_token(to, "to") if to is not None else None,
            backwards=dir == "b",
            limit=_limit(limit),
            wanted=_filter(filter),
        )
        parts = [b'{"chunk":[', b",".join(page.chunk), b'],"start":', json.dumps(page.start)]
        if page.end is not None:
            parts += (b',"end":', json.dumps(page.end))
        if page.state:
            parts += (b',"state":[', b",".join(page.state), b"]")
        return RawJson(b"".join([*parts, b"}"]))

    @endpoint("getEventContext", "GET", ROOM + "/context/{eventId}", auth=Auth.GUEST_ALLOWED)
    async def context(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        limit: Query[int] = DEFAULT_LIMIT,
        filter: Query[str | None] = None,  # noqa: A002  # the specification's name
    ) -> RawJson:
        found = await self._history.context(requester, room_id, event_id, _limit(limit), _filter(filter))
        return RawJson(
            b'{"event":%b,"events_before":[%b],"events_after":[%b],"start":%b,"end":%b,"state":[%b]}'
            % (
                found.event,
                b",".join(found.before),
                b",".join(found.after),
                json.dumps(found.start),
                json.dumps(found.end),
                b",".join(found.state),
            )
        )


class AliasesApi:
    """Names of rooms."""

    def __init__(self, aliases: AliasService, access: RoomAccess) -> None:
        self._aliases = aliases
        self._access = access

    @endpoint("getRoomIdByAlias", "GET", "/_matrix/client/{v}/directory/room/{roomAlias}", auth=Auth.NONE)
    async def resolve(self, room_alias: Path[str]) -> RoomOfAlias:
        if not room_alias.startswith("#"):
            raise InvalidParam("roomAlias: not a room alias")
        located = await self._aliases.locate(room_alias)
        return RoomOfAlias(located.room_id, list(located.servers))

    @endpoint("setRoomAlias", "PUT", "/_matrix/client/{v}/directory/room/{roomAlias}", auth=Auth.USER)
    async def put(self, requester: Requester, room_alias: Path[str], body: Body[RoomIdBody]) -> None:
        await self._aliases.put(requester, RoomAlias(room_alias), body.room_id)

    @endpoint("deleteRoomAlias", "DELETE", "/_matrix/client/{v}/directory/room/{roomAlias}", auth=Auth.USER)
    async def delete(self, requester: Requester, room_alias: Path[str]) -> None:
        await self._aliases.delete(requester, RoomAlias(room_alias))

    @endpoint("getLocalAliases", "GET", ROOM + "/aliases", auth=Auth.USER)
    async def of_room(self, requester: Requester, room_id: Path[RoomId]) -> Aliases:
        access = await self._access.of(requester, room_id)
        return Aliases(await self._aliases.aliases_of(access.room))


def _limit(limit: int) -> int:
    if limit < 0:
        raise InvalidParam("limit: must not be negative")
    return limit


def _filter(text: str | None) -> RoomEventFilter:
    return (
        RoomEventFilter() if text is None else read_room_event_filter(text.encode("utf-8", "surrogatepass"))
    )
