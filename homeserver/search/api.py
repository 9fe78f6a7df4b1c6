"""The endpoint of search.

spec: client-server-api/#server-side-search
"""

from __future__ import annotations

from homeserver.search.service import SearchService
from homeserver.search.types import SearchBody
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Query, endpoint
from homeserver.web.response import RawJson


class SearchApi:
    """Finding messages."""

    def __init__(self, search: SearchService) -> None:
        self._search = search

    @endpoint(
        "search", "POST", "/_matrix/client/{v}/search", auth=Auth.USER, limit="search", when_suspended=True
    )
    async def search(
        self, requester: Requester, body: Body[SearchBody], next_batch: Query[str | None] = None
    ) -> RawJson:
        """Searches messages, room names and topics."""
        criteria = body.search_categories.room_events
        if criteria is None:
            return RawJson(b'{"search_categories":{}}')
        found = await self._search.search(requester, criteria, next_batch)
        return RawJson(b'{"search_categories":{"room_events":%b}}' % found)
