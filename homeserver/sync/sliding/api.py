"""The endpoints of simplified sliding sync. spec: MSC4186; where it was before it was accepted, too."""

from __future__ import annotations

from homeserver.sync.sliding.request import Presence, SlidingRequest, StableRequest, check_names
from homeserver.sync.sliding.service import Asked, SlidingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Query, endpoint
from homeserver.web.response import RawJson

STABLE = "/_matrix/client/v4/sync"
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
        repeated_body=True,
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
        asked = Asked(body, pos, max(0, timeout), set_presence, stable=False)
        return RawJson(await self._service.sync(requester, asked))

    @endpoint(
        "slidingSyncStable",
        "POST",
        STABLE,
        auth=Auth.USER,
        named_only=True,
        when_suspended=True,
        cancel_on_disconnect=True,
    )
    async def sync_stable(self, requester: Requester, body: Body[StableRequest]) -> RawJson:
        """Tells news of the rooms that the client wants; all that is asked stands in the body (MSC4186)."""
        check_names(body)
        asked = Asked(body, body.pos, body.timeout, body.set_presence, stable=True)
        return RawJson(await self._service.sync(requester, asked))
