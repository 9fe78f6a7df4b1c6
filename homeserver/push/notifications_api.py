"""Endpoint: what one was notified of.

spec: client-server-api/#listing-notifications
"""

from __future__ import annotations

from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.push.notifications import Notifications
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Query, endpoint
from homeserver.web.response import RawJson

DEFAULT_LIMIT = 20


class NotificationsApi:
    """One's own."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    @endpoint("getNotifications", "GET", "/_matrix/client/{v}/notifications", auth=Auth.USER)
    async def page(
        self,
        requester: Requester,
        from_: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
        only: Query[str | None] = None,
    ) -> RawJson:
        if limit < 1:
            raise InvalidParam("limit: must be positive")
        before = None if from_ is None else _position(from_)
        page = await self._notifications.page(requester, before, limit, only_highlights=only == "highlight")
        more = b"" if page.next is None else b',"next_token":' + json.dumps(str(page.next))
        return RawJson(b'{"notifications":[%b]%b}' % (b",".join(page.notifications), more))


def _position(token: str) -> int:
    if not (token.isascii() and token.isdigit() and len(token) < 20):
        raise InvalidParam("from: not a token of this server")
    return min(int(token), 2**62)
