"""The endpoint of typing notifications.

spec: client-server-api/#put_matrixclientv3roomsroomidtypinguserid
"""

from __future__ import annotations

import msgspec

from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, UserId
from homeserver.typing.service import DEFAULT_MS, TypingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint


class TypingBody(msgspec.Struct):
    """Whether, and for how long."""

    typing: bool
    timeout: int = DEFAULT_MS


class TypingApi:
    """Saying that one types."""

    def __init__(self, typing: TypingService) -> None:
        self._typing = typing

    @endpoint(
        "setTyping", "PUT", "/_matrix/client/{v}/rooms/{roomId}/typing/{userId}", auth=Auth.GUEST_ALLOWED
    )
    async def set(
        self, requester: Requester, room_id: Path[RoomId], user_id: Path[UserId], body: Body[TypingBody]
    ) -> None:
        if user_id != requester.user_id:
            raise Forbidden("Only for yourself")
        await self._typing.set(requester, room_id, typing=body.typing, timeout_ms=body.timeout)
