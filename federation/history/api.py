"""Endpoints that tell other servers of the past of rooms.

spec: server-server-api/#retrieving-events, #backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal

import msgspec

from federation.history.by_timestamp import EventsByTimestamp
from federation.history.service import EventServing, Missing
from federation.history.turns import LargeAnswers
from homeserver.events.event import Event
from homeserver.matrix import json
from homeserver.matrix.ids import EventId, RoomId, ServerName
from homeserver.runtime.clock import Clock
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson

FEDERATION: Final = "/_matrix/federation/v1"
DEFAULT_MISSING: Final = 10


class MissingBody(msgspec.Struct):
    """spec: op:getMissingPreviousEvents."""

    earliest_events: list[EventId]
    latest_events: list[EventId]
    limit: int = DEFAULT_MISSING
    min_depth: int = 0


class StateIdsAnswer(msgspec.Struct):
    """spec: op:getRoomStateIds."""

    auth_chain_ids: list[EventId]
    pdu_ids: list[EventId]


class FoundEvent(msgspec.Struct):
    """spec: op:getEventByTimestamp (server-server)."""

    event_id: EventId
    origin_server_ts: int


class HistoryApi:
    """Events, state and what was before."""

    def __init__(
        self,
        events: EventServing,
        by_timestamp: EventsByTimestamp,
        server_name: ServerName,
        clock: Clock,
    ) -> None:
        self._events = events
        self._by_timestamp = by_timestamp
        self._server_name = server_name
        self._clock = clock
        self._large = LargeAnswers()

    @endpoint("getEvent", "GET", f"{FEDERATION}/event/{{eventId}}", auth=Auth.SERVER)
    async def event(self, origin: Origin, event_id: Path[EventId]) -> RawJson:
        """Tells one event."""
        return self._transaction([await self._events.event(origin.server_name, event_id)])

    @endpoint("backfillRoom", "GET", f"{FEDERATION}/backfill/{{roomId}}", auth=Auth.SERVER)
    async def backfill(
        self, origin: Origin, room_id: Path[RoomId], v: Query[list[EventId]], limit: Query[int]
    ) -> RawJson:
        """Tells events and what precedes them (FED-16)."""
        return self._transaction(await self._events.backfill(origin.server_name, room_id, v, limit))

    @endpoint(
        "getMissingPreviousEvents", "POST", f"{FEDERATION}/get_missing_events/{{roomId}}", auth=Auth.SERVER
    )
    async def missing(self, origin: Origin, room_id: Path[RoomId], body: Body[MissingBody]) -> RawJson:
        """Tells what precedes some events (FED-15)."""
        asked = Missing(body.latest_events, body.earliest_events, body.min_depth, body.limit)
        found = await self._events.missing(origin.server_name, room_id, asked)
        return RawJson(b'{"events":[%b]}' % b",".join(event.pdu for event in found))

    @endpoint("getRoomState", "GET", f"{FEDERATION}/state/{{roomId}}", auth=Auth.SERVER)
    async def state(self, origin: Origin, room_id: Path[RoomId], event_id: Query[EventId]) -> StreamedJson:
        """Tells the state before an event (FED-17)."""

        async def pieces() -> AsyncIterator[bytes]:
            async with self._large.turn(origin.server_name):
                async with self._large.places:
                    found = await self._events.state_ids(origin.server_name, room_id, event_id)
                yield b'{"pdus":['
                async for piece in self._events.pdus(found.state):
                    yield piece
                yield b'],"auth_chain":['
                async for piece in self._events.pdus(found.auth_chain):
                    yield piece
                yield b"]}"

        return StreamedJson(pieces())

    @endpoint("getRoomStateIds", "GET", f"{FEDERATION}/state_ids/{{roomId}}", auth=Auth.SERVER)
    async def state_ids(
        self, origin: Origin, room_id: Path[RoomId], event_id: Query[EventId]
    ) -> StateIdsAnswer:
        """Tells the IDs of the state before an event (FED-17)."""
        async with self._large.turn(origin.server_name), self._large.places:
            found = await self._events.state_ids(origin.server_name, room_id, event_id)
        return StateIdsAnswer(list(found.auth_chain.values()), list(found.state.values()))

    @endpoint("getEventAuth", "GET", f"{FEDERATION}/event_auth/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def event_auth(
        self, origin: Origin, room_id: Path[RoomId], event_id: Path[EventId]
    ) -> StreamedJson:
        """Tells what an event rests on."""

        async def pieces() -> AsyncIterator[bytes]:
            async with self._large.turn(origin.server_name):
                async with self._large.places:
                    chain = await self._events.auth_chain(origin.server_name, room_id, event_id)
                yield b'{"auth_chain":['
                async for piece in self._events.pdus(chain):
                    yield piece
                yield b"]}"

        return StreamedJson(pieces())

    @endpoint(
        "getEventByTimestamp",
        "GET",
        (
            f"{FEDERATION}/timestamp_to_event/{{roomId}}",
            "/_matrix/federation/unstable/org.matrix.msc3030/timestamp_to_event/{roomId}",
        ),
        auth=Auth.SERVER,
    )
    async def timestamp_to_event(
        self,
        origin: Origin,
        room_id: Path[RoomId],
        ts: Query[int],
        dir: Query[Literal["f", "b"]],  # noqa: A002  # the specification's name
    ) -> FoundEvent:
        """Tells the event closest to a moment (FED-44)."""
        event = await self._by_timestamp.closest(origin.server_name, room_id, ts, backwards=dir == "b")
        return FoundEvent(event.event_id, event.origin_server_ts)

    def _transaction(self, events: Sequence[Event]) -> RawJson:
        return RawJson(
            b'{"origin":%b,"origin_server_ts":%d,"pdus":[%b]}'
            % (
                json.dumps(self._server_name),
                self._clock.now_ms(),
                b",".join(event.pdu for event in events),
            )
        )
