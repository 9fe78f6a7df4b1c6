"""The endpoint of simplified sliding sync. spec: MSC4186, under its unstable name."""

from __future__ import annotations

from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.service import Asked, Presence, SlidingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Query, endpoint
from homeserver.web.response import RawJson

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"


class SlidingApi:
    """Sliding sync."""

    def __init__(self, service: SlidingService) -> None:
        self._service = service

    @endpoint(
        "slidingSync",
        "POST",
        PATH,
        auth=Auth.USER,
        named_only=True,
        when_suspended=True,
        cancel_on_disconnect=True,
    )
    async def sync(
        self,
        requester: Requester,
        body: Body[SlidingRequest],
        pos: Query[str | None] = None,
        timeout: Query[int] = 0,
        set_presence: Query[Presence] = "online",
    ) -> RawJson:
        """Tells news of the rooms that the client wants (MSC4186)."""
        return RawJson(await self._service.sync(requester, Asked(body, pos, max(0, timeout), set_presence)))
