"""Endpoints of account data and tags.

spec: client-server-api/#client-config, #room-tagging
"""

from __future__ import annotations

from typing import Any

from homeserver.account_data.service import AccountDataService
from homeserver.account_data.stream import AccountDataStream
from homeserver.matrix.errors import Forbidden, NotFound
from homeserver.matrix.ids import RoomId, UserId
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint
from homeserver.web.response import RawJson

USER = "/_matrix/client/{v}/user/{userId}"
ROOM = USER + "/rooms/{roomId}"


class AccountDataApi:
    """One's own data, nobody else's."""

    def __init__(self, data: AccountDataService, stream: AccountDataStream) -> None:
        self._data = data
        self._stream = stream

    @endpoint("getAccountData", "GET", USER + "/account_data/{type}", auth=Auth.GUEST_ALLOWED)
    async def get(self, requester: Requester, user_id: Path[UserId], type: Path[str]) -> RawJson:  # noqa: A002  # the specification's name
        _own(requester, user_id)
        try:
            return RawJson(await self._data.get(requester.user_nid, None, type))
        except NotFound:
            default = await self._stream.default(type, requester.user_nid, requester.user_id)
            if default is None:
                raise
            return RawJson(default)

    @endpoint(
        "setAccountData", "PUT", USER + "/account_data/{type}", auth=Auth.GUEST_ALLOWED, when_suspended=True
    )
    async def put(
        self,
        requester: Requester,
        user_id: Path[UserId],
        type: Path[str],  # noqa: A002  # the specification's name
        body: Body[dict[str, Any]],
    ) -> None:
        _own(requester, user_id)
        await self._data.put(requester.user_nid, None, type, body)

    @endpoint("getAccountDataPerRoom", "GET", ROOM + "/account_data/{type}", auth=Auth.GUEST_ALLOWED)
    async def get_of_room(
        self,
        requester: Requester,
        user_id: Path[UserId],
        room_id: Path[RoomId],
        type: Path[str],  # noqa: A002  # the specification's name
    ) -> RawJson:
        _own(requester, user_id)
        return RawJson(await self._data.get(requester.user_nid, room_id, type))

    @endpoint(
        "setAccountDataPerRoom",
        "PUT",
        ROOM + "/account_data/{type}",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
    )
    async def put_of_room(
        self,
        requester: Requester,
        user_id: Path[UserId],
        room_id: Path[RoomId],
        type: Path[str],  # noqa: A002  # the specification's name
        body: Body[dict[str, Any]],
    ) -> None:
        _own(requester, user_id)
        await self._data.put(requester.user_nid, room_id, type, body)

    @endpoint("getRoomTags", "GET", ROOM + "/tags", auth=Auth.USER)
    async def tags(
        self, requester: Requester, user_id: Path[UserId], room_id: Path[RoomId]
    ) -> dict[str, Any]:
        _own(requester, user_id)
        return {"tags": await self._data.tags(requester.user_nid, room_id)}

    @endpoint("setRoomTag", "PUT", ROOM + "/tags/{tag}", auth=Auth.USER, when_suspended=True)
    async def put_tag(
        self,
        requester: Requester,
        user_id: Path[UserId],
        room_id: Path[RoomId],
        tag: Path[str],
        body: Body[dict[str, Any]],
    ) -> None:
        _own(requester, user_id)
        await self._data.put_tag(requester.user_nid, room_id, tag, body)

    @endpoint("deleteRoomTag", "DELETE", ROOM + "/tags/{tag}", auth=Auth.USER, when_suspended=True)
    async def delete_tag(
        self, requester: Requester, user_id: Path[UserId], room_id: Path[RoomId], tag: Path[str]
    ) -> None:
        _own(requester, user_id)
        await self._data.delete_tag(requester.user_nid, room_id, tag)


def _own(requester: Requester, user_id: UserId) -> None:
    if user_id != requester.user_id:
        raise Forbidden("Account data is its owner's alone")
