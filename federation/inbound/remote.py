"""What we ask other servers for when something that events refer to is not here; each answer bounded, each filling has a budget.

spec: server-server-api/#backfilling-and-retrieving-missing-events, #retrieving-events, #retrieving-event-authorization-information
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from federation.ports import Ask, BadAnswer, Client, Partners, RemoteFault
from homeserver.matrix.ids import EventId, RoomId, ServerName
from homeserver.runtime.clock import Clock

V1: Final = ("_matrix", "federation", "v1")
MAX_IDS: Final = 200_000
"""Of one state, and as many of its auth chain."""
MAX_STATE_BYTES: Final = 96 << 20
MAX_EVENTS_BYTES: Final = 8 << 20
MAX_EVENT_BYTES: Final = 256 << 10
MAX_ORIGINS: Final = 10_000
TIMEOUT: Final = 20.0
STATE_TIMEOUT: Final = 60.0

T = TypeVar("T")


class OutOfBudget(RemoteFault):
    """More would have to be asked, or fetched, than is allowed at once."""


class Budget:
    """What one filling may still cost. Owned by it."""

    __slots__ = ("_clock", "_until", "bytes", "events", "requests")

    def __init__(self, clock: Clock, *, requests: int, events: int, size: int, seconds: float) -> None:
        self.requests = requests
        self.events = events
        self.bytes = size
        self._clock = clock
        self._until = clock.monotonic() + seconds

    def begin(self, server: ServerName) -> float:
        """Count one request; the seconds that are left for it. Raises `OutOfBudget`."""
        left = self._until - self._clock.monotonic()
        self.requests -= 1
        if self.requests < 0 or self.events <= 0 or self.bytes <= 0 or left <= 0:
            raise OutOfBudget(server, "more is missing than is fetched at once")
        return left

    def count(self, pdus: Sequence[msgspec.Raw]) -> None:
        """Count what has come."""
        self.events -= len(pdus)
        self.bytes -= sum(len(pdu) for pdu in pdus)


class Allowance:
    """How many events may be fetched for what an origin has sent, over time: what is fetched is kept, whoever made it up.

    Owned by `Gaps`; of one process.
    """

    def __init__(self, clock: Clock, *, burst: int, per_second: float) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._spent: dict[ServerName, tuple[float, float]] = {}
        """origin -> (events, when)."""

    def left(self, origin: ServerName) -> int:
        """Events."""
        spent, at = self._spent.get(origin, (0.0, 0.0))
        return int(self._burst - max(0.0, spent - (self._clock.monotonic() - at) * self._per_second))

    def spend(self, origin: ServerName, events: int) -> None:
        """So many were fetched."""
        if len(self._spent) >= MAX_ORIGINS and origin not in self._spent:
            self._spent = {name: each for name, each in self._spent.items() if self.left(name) < self._burst}
        if events:
            self._spent[origin] = (self._burst - self.left(origin) + events, self._clock.monotonic())


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]


class _Pdus(msgspec.Struct):
    pdus: list[msgspec.Raw]


class _AuthChain(msgspec.Struct):
    auth_chain: list[msgspec.Raw]


class StateIds(msgspec.Struct):
    """The state before an event, and the auth chain of it, by id."""

    pdu_ids: list[EventId]
    auth_chain_ids: list[EventId]


class State(msgspec.Struct):
    """The same, whole."""

    pdus: list[msgspec.Raw]
    auth_chain: list[msgspec.Raw]


class Remote:
    """Asks one server at a time. Every method raises `RemoteFault`."""

    def __init__(self, client: Client, partners: Partners) -> None:
        self._client = client
        self._partners = partners

    async def sharing(self, servers: Sequence[ServerName], room_id: RoomId) -> list[ServerName]:
        """Those of the servers that may be asked about a room."""
        return await self._partners.sharing(servers, room_id)

    async def missing_events(
        self,
        server: ServerName,
        room_id: RoomId,
        between: tuple[Collection[EventId], Collection[EventId]],
        limit: int,
        budget: Budget,
    ) -> list[msgspec.Raw]:
        """What lies between events that are here and those that are not. `between`: (earliest, latest). (FED-15)"""
        content = {
            "earliest_events": list(between[0]),
            "latest_events": list(between[1]),
            "limit": limit,
            "min_depth": 0,
        }
        ask = self._ask(server, ("get_missing_events", room_id), budget, content=content)
        found = (await self._client.ask(server, ask, _Events)).events[:limit]
        budget.count(found)
        return found

    async def backfill(
        self,
        server: ServerName,
        room_id: RoomId,
        event_ids: Collection[EventId],
        limit: int,
        budget: Budget,
    ) -> list[msgspec.Raw]:
        """Events and what precedes them. (FED-16)"""
        named = [("v", each) for each in event_ids]
        ask = self._ask(server, ("backfill", room_id), budget, query=[*named, ("limit", str(limit))])
        found = (await self._client.ask(server, ask, _Pdus)).pdus[: limit + len(event_ids)]
        budget.count(found)
        return found

    async def state_ids(
        self, server: ServerName, room_id: RoomId, event_id: EventId, budget: Budget
    ) -> StateIds:
        """The state before an event. (FED-17)"""
        ask = self._ask(
            server, ("state_ids", room_id), budget, event_id=event_id, most=2 * MAX_EVENTS_BYTES, long=True
        )
        found = await self._client.ask(server, ask, StateIds)
        if max(len(found.pdu_ids), len(found.auth_chain_ids)) > MAX_IDS:
            raise BadAnswer(server, f"a state of more than {MAX_IDS} events")
        return found

    async def state(self, server: ServerName, room_id: RoomId, event_id: EventId, budget: Budget) -> State:
        """The same with the events themselves: for when most of them are not here."""
        ask = self._ask(
            server, ("state", room_id), budget, event_id=event_id, most=MAX_STATE_BYTES, long=True
        )
        found = await self._client.ask(server, ask, State)
        if max(len(found.pdus), len(found.auth_chain)) > MAX_IDS:
            raise BadAnswer(server, f"a state of more than {MAX_IDS} events")
        budget.count(found.pdus)
        budget.count(found.auth_chain)
        return found

    async def event(self, server: ServerName, event_id: EventId, budget: Budget) -> msgspec.Raw:
        """One event."""
        ask = self._ask(server, ("event", event_id), budget, most=MAX_EVENT_BYTES)
        found = (await self._client.ask(server, ask, _Pdus)).pdus[:1]
        if not found:
            raise BadAnswer(server, "no event in the answer")
        budget.count(found)
        return found[0]

    async def event_auth(
        self, server: ServerName, room_id: RoomId, event_id: EventId, budget: Budget
    ) -> list[msgspec.Raw]:
        """The whole auth chain of an event."""
        ask = self._ask(server, ("event_auth", room_id, event_id), budget, most=4 * MAX_EVENTS_BYTES)
        found = (await self._client.ask(server, ask, _AuthChain)).auth_chain
        budget.count(found)
        return found

    @staticmethod
    def _ask(
        server: ServerName,
        path: tuple[str, ...],
        budget: Budget,
        *,
        most: int = MAX_EVENTS_BYTES,
        long: bool = False,
        event_id: EventId | None = None,
        query: Sequence[tuple[str, str]] = (),
        content: Mapping[str, Any] | None = None,
    ) -> Ask:
        left = budget.begin(server)
        return Ask(
            method="POST" if content is not None else "GET",
            path=(*V1, *path),
            query=(*query, *([("event_id", event_id)] if event_id is not None else [])),
            content=content,
            timeout=min(STATE_TIMEOUT if long else TIMEOUT, left),
            max_bytes=max(min(most, budget.bytes), 1 << 10),
        )
