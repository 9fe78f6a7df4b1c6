"""Endpoints of thread subscriptions, under their unstable names. spec: MSC4306, MSC4308"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from homeserver.log.tail import Tail
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.threads.service import ThreadSubscriptions
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson

SUBSCRIPTION: Final = (
    "/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription"
)
CHANGES: Final = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
DEFAULT_LIMIT: Final = 100
_POS: Final = re.compile(r"(s[0-9]{1,18})~[0-9a-f]{1,16}", re.ASCII)


class Wish(msgspec.Struct):
    """Why a thread is subscribed to."""

    automatic: EventId | None = None
    """The event that makes the client do so by itself."""


class Automatic(msgspec.Struct):
    """A subscription."""

    automatic: bool


class ThreadSubscriptionsApi:
    """One's own subscriptions."""

    def __init__(self, service: ThreadSubscriptions, tail: Tail) -> None:
        self._service = service
        self._tail = tail

    @endpoint("getThreadSubscription", "GET", SUBSCRIPTION, auth=Auth.USER)
    async def get(self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId]) -> Automatic:
        """Tells whether the user is subscribed."""
        return Automatic((await self._service.get(requester, room_id, event_id)).automatic)

    @endpoint("setThreadSubscription", "PUT", SUBSCRIPTION, auth=Auth.USER, limit="default")
    async def put(
        self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId], body: Body[Wish]
    ) -> dict[str, Any]:
        """Subscribes."""
        await self._service.subscribe(requester, room_id, event_id, body.automatic)
        return {}

    @endpoint("deleteThreadSubscription", "DELETE", SUBSCRIPTION, auth=Auth.USER, limit="default")
    async def delete(
        self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId]
    ) -> dict[str, Any]:
        """Unsubscribes."""
        await self._service.unsubscribe(requester, room_id, event_id)
        return {}

    @endpoint("getThreadSubscriptionChanges", "GET", CHANGES, auth=Auth.USER)
    async def changes(
        self,
        requester: Requester,
        dir: Query[Literal["b"]],  # noqa: A002  # the MSC's name
        from_: Query[str | None] = None,
        to: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
    ) -> RawJson:
        """Pages through changes, the newest first. `to`: the `pos` with which sliding sync was asked."""
        del dir  # there is but one
        if limit < 1:
            raise InvalidParam("limit: must be positive")
        upto = parse_token(from_, "from") if from_ else self._tail.position
        page = await self._service.page(requester, _position(to) if to else 0, upto, limit)
        members = [f'"{name}":'.encode() + value for name, value in page.members.items()]
        if page.before is not None:
            members.append(b'"end":"%b"' % page.before.encode())
        return RawJson(b"{%b}" % b",".join(members))


def _position(token: str) -> int:
    """Raises `InvalidParam`."""
    pos = _POS.fullmatch(token)
    return parse_token(pos[1] if pos else token, "to")
