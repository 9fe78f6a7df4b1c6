"""Where branches of a room meet: the shell around state resolution. Loads what the pure part asks for; large ones run in a
thread, so that no other room waits.

spec: rooms/v2/#state-resolution
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.events.state_resolution import NeedsAgreed, NeedsEvents, Resolution
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import REJECTED
from homeserver.graph.resolved import THIS_EVENT, NewState, content_of
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.graph.state.states import StateMap, StateStore
from homeserver.matrix.ids import EventId
from homeserver.storage.database import Database

LARGE = 1_000
"""Keys that are compared, or events that are weighed, from which on a resolution runs in a thread."""
T = TypeVar("T")


class UnwrittenEvent(NamedTuple):
    """An event that is being written, which OWN stands for."""

    event: Event
    auth: Sequence[int]
    """event_nids of its auth events."""


class StateResolver:
    """Resolves states of rooms in the database: loads what the pure part asks for, and runs large resolutions in a thread."""

    def __init__(self, db: Database, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._events = events
        self._states = states
        self._interning = interning
        self._cover = AuthCover(db, events)

    async def resolve(
        self, version: RoomVersion, maps: Sequence[StateMap], own: UnwrittenEvent | None = None
    ) -> StateMap:
        """key_nid -> event_nid of the one state these states become. Independent of their order.

        `own`: the event that OWN stands for.
        """
        if len(maps) == 1:
            return maps[0]
        large = sum(map(len, maps)) > LARGE
        agreed, differing = await _run(large, _split, maps)
        if len(differing) <= 1:
            return {**agreed, **differing[0]} if differing else agreed
        state = await self._resolve(version, agreed, differing, own, cover=True)
        if state is None:
            state = await self._resolve(
                version, {}, [{**agreed, **each} for each in differing], own, cover=False
            )
        assert state is not None
        return {**state, **agreed}

    async def _resolve(
        self,
        version: RoomVersion,
        agreed: StateMap,
        differing: Sequence[StateMap],
        own: UnwrittenEvent | None,
        *,
        cover: bool,
    ) -> StateMap | None:
        """What becomes of what differs. None if the chain cover cannot tell."""
        keys = await self._interning.keys({key for state in differing for key in state})
        ids = await self._ids({nid for state in differing for nid in state.values()}, own)
        numbers = {event_id: nid for nid, event_id in ids.items()}
        rejected: set[EventId] = set()
        sets = [{keys[key]: ids[nid] for key, nid in state.items()} for state in differing]
        resolution = Resolution(
            sets, version, rejected=rejected, asks_auth_difference=cover, asks_agreed=cover
        )
        if own is not None:
            resolution.add_events([own.event])
        heavy = len(numbers)
        while request := await _run(heavy > LARGE, resolution.advance):
            if isinstance(request, NeedsEvents):
                heavy += len(request.event_ids)
                unknown = [event_id for event_id in request.event_ids if event_id not in numbers]
                numbers |= await self._events.numbers(unknown) if unknown else {}
                persisted = await self._events.load(
                    [numbers[each] for each in request.event_ids if each in numbers]
                )
                rejected.update(each.event.event_id for each in persisted.values() if each.flags & REJECTED)
                resolution.add_events(each.event for each in persisted.values())
            elif isinstance(request, NeedsAgreed):
                resolution.add_agreed(await self._agreed(agreed, request.keys))
            else:
                conflicted = [[numbers[event_id] for event_id in side] for side in request.conflicted]
                difference = await self._cover.difference(
                    agreed.values(), conflicted, own.auth if own else (), subgraph=request.subgraph
                )
                if difference is None:
                    return None
                numbers |= difference
                resolution.add_auth_difference(difference)
        names = await self._interning.key_nids(list(resolution.state))
        return {names[key]: numbers[event_id] for key, event_id in resolution.state.items()}

    async def _agreed(self, agreed: StateMap, keys: Sequence[StateKey]) -> dict[StateKey, EventId]:
        found = await self._interning.find_key_nids(keys)
        ids = await self._ids({agreed[nid] for nid in found.values() if nid in agreed}, None)
        return {key: ids[agreed[nid]] for key, nid in found.items() if nid in agreed}

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

    async def _ids(self, nids: set[int], own: UnwrittenEvent | None) -> dict[int, EventId]:
        held = {
            nid: persisted.event.event_id for nid in nids if (persisted := self._events.get(nid)) is not None
        }
        missing = [nid for nid in nids if nid not in held and nid != THIS_EVENT]
        if missing:
            async with self._db.read() as tx:
                held |= await tx.all(
                    "SELECT event_nid, event_id FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
                    nids=missing,
                )
        if own is not None:
            held[THIS_EVENT] = own.event.event_id
        return held


async def _run(large: bool, work: Callable[..., T], *values: Any) -> T:
    """What is large is done in a thread: no other room waits."""
    return await asyncio.to_thread(work, *values) if large else work(*values)


def _split(maps: Sequence[StateMap]) -> tuple[StateMap, list[StateMap]]:
    """What all states agree on, and what each that is like no other has besides."""
    different: dict[int, list[StateMap]] = {}
    for state in maps:
        alike = different.setdefault(hash(frozenset(state.items())), [])
        if state not in alike:
            alike.append(state)
    distinct = [state for alike in different.values() for state in alike]
    common = set(distinct[0].items()) if distinct else set()
    for state in distinct[1:]:
        common &= state.items()
    return dict(common), [dict(state.items() - common) for state in distinct]
