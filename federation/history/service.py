"""What other servers are told of the past of rooms.

spec: server-server-api/#retrieving-events, #backfilling-and-retrieving-missing-events (CHECKLIST FED-15 to FED-17, FED-44)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final, NamedTuple

from federation.history.access import ServerAccess, Standing
from federation.history.ancestors import Ancestors
from federation.implied_create import implied_create
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.page_size import PAGE_BYTES, fitting, in_parts
from homeserver.graph.read.pages import Pages
from homeserver.graph.refs import OUTLIER, REJECTED
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.graph.state.states import StateStore
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import EventId, RoomId, ServerName
from homeserver.runtime.turns import next_turn

MAX_LIMIT: Final = 100
"""Events of one answer."""
MAX_NAMED: Final = 100
"""Events that a request may name; more are not looked at."""


class Missing(NamedTuple):
    """What a server asks for that does not know the events before `latest`."""

    latest: Collection[EventId]
    earliest: Collection[EventId]
    min_depth: int
    limit: int


class StateIds(NamedTuple):
    """Numbers and IDs of a state and of its auth chain."""

    state: dict[int, EventId]
    auth_chain: dict[int, EventId]


class EventServing:
    """Answers requests of other servers for events. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        access: ServerAccess,
        rooms: Rooms,
        events: EventCache,
        states: StateStore,
        pages: Pages,
        cover: AuthCover,
    ) -> None:
        self._access = access
        self._rooms = rooms
        self._events = events
        self._states = states
        self._pages = pages
        self._cover = cover

    async def event(self, server_name: ServerName, event_id: EventId) -> Event:
        """One event. Raises `NotFound`, `Forbidden`. spec: op:getEvent"""
        persisted = await self._events.by_id(event_id)
        if persisted is None:
            raise _no_such_event()
        standing = await self._access.standing(server_name, await self._rooms.get(persisted.room_nid))
        told = await self._access.told(standing, [persisted], by_id=True)
        if not told:
            raise _no_such_event()
        return told[0]

    async def backfill(
        self, server_name: ServerName, room_id: RoomId, event_ids: Collection[EventId], limit: int
    ) -> list[Event]:
        """Events and what precedes them, the newest first. Raises `Forbidden`. spec: op:backfillRoom"""
        standing = await self._access.of(server_name, room_id)
        walk = Ancestors(self._events, self._pages, standing.room.name.nid)
        named = list(event_ids)[:MAX_NAMED]
        found = await walk.backwards(named, max(0, min(limit, MAX_LIMIT)))
        return _bounded(await self._access.told(standing, found))

    async def missing(self, server_name: ServerName, room_id: RoomId, asked: Missing) -> list[Event]:
        """What precedes some events, the oldest first. Raises `Forbidden`. spec: op:getMissingPreviousEvents"""
        standing = await self._access.of(server_name, room_id)
        walk = Ancestors(self._events, self._pages, standing.room.name.nid)
        found = await walk.missing(
            list(asked.latest)[:MAX_NAMED],
            list(asked.earliest)[:MAX_NAMED],
            min_depth=asked.min_depth,
            limit=max(0, min(asked.limit, MAX_LIMIT)),
        )
        told = _bounded(await self._access.told(standing, found))
        return sorted(told, key=lambda event: event.depth)

    async def state_ids(self, server_name: ServerName, room_id: RoomId, event_id: EventId) -> StateIds:
        """The state before an event, and its auth chain. Raises `Forbidden`, `NotFound`. spec: op:getRoomStateIds"""
        standing, persisted = await self._asked(server_name, room_id, event_id)
        if persisted.flags & (OUTLIER | REJECTED):
            raise NotFound("The state at this event is not known here")
        nids = (await self._states.load(persisted.state_before.nid)).values()
        state = await self._events.ids(nids)
        return StateIds(state, await self._auth_chain(standing.room, nids))

    async def auth_chain(self, server_name: ServerName, room_id: RoomId, event_id: EventId) -> list[int]:
        """Numbers of what an event rests on. Raises `Forbidden`, `NotFound`. spec: op:getEventAuth"""
        standing, persisted = await self._asked(server_name, room_id, event_id)
        numbers = await self._events.numbers(persisted.event.auth_event_ids)
        chain = {*numbers.values(), *await self._auth_chain(standing.room, numbers.values())}
        return sorted(chain - {persisted.nid})

    async def pdus(self, nids: Collection[int]) -> AsyncIterator[bytes]:
        """Events of a state as JSON, some at a time, with commas between them."""
        first = True
        async for part in in_parts(self._events, sorted(nids)):
            await next_turn()
            if part.events:
                yield (b"" if first else b",") + b",".join(each.event.pdu for each in part.events)
                first = False

    # --- inside --------------------------------------------------------------------------------------------------

    async def _asked(
        self, server_name: ServerName, room_id: RoomId, event_id: EventId
    ) -> tuple[Standing, PersistedEvent]:
        """The event of a room that a server may know what it rests on. Raises `Forbidden`, `NotFound`."""
        standing = await self._access.of(server_name, room_id)
        persisted = await self._events.by_id(event_id)
        if persisted is None or persisted.room_nid != standing.room.name.nid:
            raise _no_such_event()
        if not await self._access.saw(standing, persisted):
            raise _no_such_event()
        return standing, persisted

    async def _auth_chain(self, room: Room, nids: Collection[int]) -> dict[int, EventId]:
        chain = await self._cover.chain_of(set(nids))
        if chain is None:
            raise NotFound("What these events rest on is not known here")
        create = await self._events.ids(implied_create(room))
        return {nid: event_id for event_id, nid in chain.items()} | create


def _bounded(events: Sequence[Event]) -> list[Event]:
    return list(events[: fitting((len(event.pdu) for event in events), PAGE_BYTES)])


def _no_such_event() -> NotFound:
    return NotFound("There is no such event")
