"""Endpoints: sync and filters.

spec: client-server-api/#syncing, #filtering
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec

from homeserver.events.filtering import MAX_FILTER_BYTES
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import UserId
from homeserver.matrix.tokens import parse_sync_token
from homeserver.runtime.turns import next_turn
from homeserver.sync.v3.assemble import PIECE
from homeserver.sync.v3.filters import FilterService
from homeserver.sync.v3.service import Presence, SyncParameters, SyncService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Name, Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson

STATE_AFTER, UNSTABLE_STATE_AFTER = "state_after", "org.matrix.msc4222.state_after"
FILTERS = "/_matrix/client/{v}/user/{userId}/filter"


class FilterId(msgspec.Struct):
    """Which filter."""

    filter_id: str


class SyncApi:
    """Syncing."""

    def __init__(self, sync: SyncService, filters: FilterService) -> None:
        self._sync = sync
        self._filters = filters

    @endpoint("sync", "GET", "/_matrix/client/{v}/sync", auth=Auth.GUEST_ALLOWED, named_only=True)
    async def sync(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        since: Query[str | None] = None,
        timeout: Query[int] = 0,  # the specification's name
        filter: Query[str | None] = None,  # noqa: A002  # the specification's name
        full_state: Query[bool] = False,
        use_state_after: Query[bool] = False,
        unstable_state_after: Annotated[Query[bool], Name("org.matrix.msc4222.use_state_after")] = False,
        set_presence: Query[Presence] = "online",
    ) -> RawJson | StreamedJson:
        token = parse_sync_token(since, "since") if since else None
        parameters = SyncParameters(
            token.position if token else None,
            token.to_device if token else 0,
            await self._filters.for_sync(requester.user_nid, filter),
            max(0, timeout),
            full_state,
            STATE_AFTER if use_state_after else UNSTABLE_STATE_AFTER if unstable_state_after else None,
            set_presence,
            token.profiles if token else None,
        )
        pieces = await self._sync.sync(requester, parameters)
        if parameters.since is None or parameters.full_state:
            return StreamedJson(_in_pieces(pieces))
        return RawJson(b"".join(pieces))

    @endpoint(
        "defineFilter",
        "POST",
        FILTERS,
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        max_body=2 * MAX_FILTER_BYTES,  # with white space
    )
    async def define(
        self, requester: Requester, user_id: Path[UserId], body: Body[dict[str, Any]]
    ) -> FilterId:
        _own(requester, user_id)
        return FilterId(await self._filters.define(requester.user_nid, body))

    @endpoint("getFilter", "GET", FILTERS + "/{filterId}", auth=Auth.GUEST_ALLOWED)
    async def get(self, requester: Requester, user_id: Path[UserId], filter_id: Path[str]) -> RawJson:
        _own(requester, user_id)
        return RawJson(await self._filters.definition(requester.user_nid, filter_id))


def _own(requester: Requester, user_id: UserId) -> None:
    if user_id != requester.user_id:
        raise Forbidden("Filters are their owner's alone")


async def _in_pieces(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Rooms are put together while earlier ones are on their way."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
            await next_turn()
    yield b"".join(waiting)
