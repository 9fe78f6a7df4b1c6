"""Older history that people page to and that is not here, asked of servers in the room.

spec: server-server-api/#backfilling-and-retrieving-missing-events (CHECKLIST ROOM-22, FED-16)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from federation.inbound.below import History, add_history, leading_to
from federation.inbound.missing import Gaps
from federation.inbound.remote import Budget, Remote
from federation.ports import Checked, EventChecker, RemoteFault
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import EventId, ServerName, domain_of
from homeserver.rooms.servers import servers_in
from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.federation.history")

PATIENCE: Final = 8.0
"""Seconds that a page waits for older events; they go on being fetched, and the next page has them."""
MAX_SERVERS: Final = 5
"""Servers that are asked, one after the other."""
MAX_NAMED: Final = 20
"""Events that one question names."""
MAX_EVENTS: Final = 100
"""Events that are asked for at once."""
AT_ONCE: Final = 20
"""Rooms whose history a process fetches at the same time."""
REQUESTS: Final = 100
EVENTS: Final = 50_000
BYTES: Final = 192 << 20
SECONDS: Final = 60.0
"""The budget of one fetch: a state of a large room may be part of it."""


class RemoteHistory:
    """Fulfils `rooms.ports.Backfiller`. Fetches under way: one for each room in this process."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        remote: Remote,
        gaps: Gaps,
        checker: EventChecker,
        rooms: Rooms,
        events: EventCache,
        history: History,
        server_name: ServerName,
        clock: Clock,
    ) -> None:
        self._remote = remote
        self._gaps = gaps
        self._checker = checker
        self._rooms = rooms
        self._events = events
        self._history = history
        self._server_name = server_name
        self._clock = clock
        self._fetches: dict[int, asyncio.Task[bool]] = {}

    async def find_older(
        self, requester: Requester, room: RoomIdentity, missing: Sequence[EventId], limit: int
    ) -> bool:
        """See the protocol."""
        del requester
        task = self._fetches.get(room.nid)
        if task is None:
            if len(self._fetches) >= AT_ONCE or not missing:
                return False
            task = asyncio.create_task(self._fetch(room, missing[:MAX_NAMED], min(limit, MAX_EVENTS)))
            self._fetches[room.nid] = task
            task.add_done_callback(lambda _: self._fetches.pop(room.nid, None))
        async with paused():
            await asyncio.wait([task], timeout=PATIENCE)
        return task.done() and not task.cancelled() and task.exception() is None and task.result()

    async def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _fetch(self, name: RoomIdentity, missing: Sequence[EventId], limit: int) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                room = await self._rooms.get(name.nid)
                for server in await self._servers(room):
                    if await self._fetch_from(server, room, missing, limit):
                        return True
        except TimeoutError:
            _log.info("history_not_fetched", room=name.room_id, problem="not in time")
        return False

    async def _fetch_from(
        self, server: ServerName, room: Room, missing: Sequence[EventId], limit: int
    ) -> bool:
        budget = Budget(self._clock, requests=REQUESTS, events=EVENTS, size=BYTES, seconds=SECONDS)
        room_id = room.name.room_id
        try:
            pdus = await self._remote.backfill(server, room_id, missing, limit, budget)
        except RemoteFault as fault:
            if fault.is_news:
                _log.info("history_not_fetched", room=room_id, server=server, problem=fault.problem[:200])
            return False
        # spec: op:backfillRoom: "MUST NOT be validated on these specific restrictions", which are newer than some events
        checked = await self._checker.check([bytes(pdu) for pdu in pdus], room.name.version, bounded=False)
        told = {
            each.event.event_id: each.event
            for each in checked
            if isinstance(each, Checked) and each.event.room_id == room_id
        }
        events = leading_to(missing, told)
        if not events:
            return False
        servers = [server, *(each for each in await self._servers(room) if each != server)]
        filled = await self._gaps.under(room, servers, events, budget)
        return await add_history(self._history, room.name, events, filled.states)

    async def _servers(self, room: Room) -> list[ServerName]:
        servers = await servers_to_ask(room, self._events, self._server_name)
        return (await self._remote.sharing(servers, room.name.room_id))[:MAX_SERVERS]


async def servers_to_ask(room: Room, events: EventCache, own: ServerName) -> list[ServerName]:
    """Others in the room: whose user has made it, for they have all of it, then those with most users in it."""
    others = [name for name in servers_in(room, own) if name != own]
    create = room.state.get(("m.room.create", ""))
    persisted = await events.one(create) if create else None
    first = domain_of(persisted.event.sender) if persisted is not None else None
    return sorted(others, key=lambda name: name != first)
