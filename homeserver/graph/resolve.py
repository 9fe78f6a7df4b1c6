"""Where branches of a room meet: the shell around state resolution. Loads what the pure part asks for; large ones run in a
thread, so that no other room waits.

spec: rooms/v2/#state-resolution
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.events.state_resolution import NeedsEvents, Resolution
from homeserver.graph.events import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import REJECTED
from homeserver.graph.resolved import OWN, NewState, content_of
from homeserver.graph.states import StateMap, StateStore
from homeserver.matrix.ids import EventId
from homeserver.storage.database import Database

LARGE = 1_000
"""Keys that differ, or are set, from which on a resolution runs in a thread."""


class StateResolver:
    """One per process."""

    def __init__(self, db: Database, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._events = events
        self._states = states
        self._interning = interning

    async def resolve(
        self, version: RoomVersion, maps: Sequence[StateMap], own: Event | None = None
    ) -> StateMap:
        """key_nid -> event_nid of the one state these states become. Independent of their order.

        `own`: the event that OWN stands for.
        """
        maps = _distinct(maps)
        if len(maps) == 1:
            return maps[0]
        keys = await self._interning.keys({key for state in maps for key in state})
        ids = await self._ids({nid for state in maps for nid in state.values()} - {OWN})
        if own is not None:
            ids[OWN] = own.event_id
        rejected: set[EventId] = set()
        sets = [{keys[key]: ids[nid] for key, nid in state.items()} for state in maps]
        resolution = Resolution(sets, version, rejected=rejected)
        if own is not None:
            resolution.add_events([own])
        large = max(map(len, maps)) > LARGE
        while request := await asyncio.to_thread(resolution.advance) if large else resolution.advance():
            assert isinstance(request, NeedsEvents)
            numbers = await self._events.numbers(request.event_ids)
            stored = (await self._events.load(numbers.values())).values()
            rejected.update(each.event.event_id for each in stored if each.flags & REJECTED)
            resolution.add_events(each.event for each in stored)
        return await self._numbered(resolution.state, own)

    async def new_state(self, state: StateMap, near: int) -> NewState:
        """A row for a state, as what differs from a state `near` it; or the row that says the same."""
        content = content_of(state)
        if content is not None and (row := await self._find(content)) is not None:
            return NewState(row[0], near, row[1], {}, content, known=True)
        before = await self._states.load(near)
        differing = {key: state.get(key, 0) for key in {*state, *before} if state.get(key) != before.get(key)}
        async with self._db.transaction() as tx:
            nid = await tx.value("SELECT nextval('resolved_state_nids')")
        heights = await self._states.heights([near])
        return NewState(nid, near, heights[near] + 1, differing, content)

    async def _find(self, content: bytes) -> tuple[int, int] | None:
        async with self._db.read() as tx:
            row = await tx.one(
                "SELECT state_nid, height FROM state WHERE content = %(content)s ORDER BY state_nid LIMIT 1",
                content=content,
            )
        return (row[0], row[1]) if row else None

    async def _ids(self, nids: set[int]) -> dict[int, EventId]:
        async with self._db.read() as tx:
            rows = await tx.all(
                "SELECT event_nid, event_id FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
                nids=list(nids),
            )
        return dict(rows)

    async def _numbered(self, state: Mapping[StateKey, EventId], own: Event | None) -> StateMap:
        keys = await self._interning.key_nids(list(state))
        numbers = await self._events.numbers(list(state.values()))
        if own is not None:
            numbers[own.event_id] = OWN
        return {keys[key]: numbers[event_id] for key, event_id in state.items()}


def _distinct(maps: Sequence[StateMap]) -> list[StateMap]:
    found: list[StateMap] = []
    for state in maps:
        if state not in found:
            found.append(state)
    return found
