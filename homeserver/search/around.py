"""What stood around results: events before and after, and what their senders were called then. For all results together.

spec: op:search `event_context`
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.page_size import PAGE_BYTES, weight
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId
from homeserver.search import store
from homeserver.search.types import MAX_AROUND, EventContext
from homeserver.storage.database import Database


class Near(NamedTuple):
    """What stood around one result."""

    before: list[Visible]
    """The nearest first, as in `/context`."""
    after: list[Visible]
    profiles: dict[UserId, dict[str, str]]
    """User id -> name and picture of those who sent these events, as of the result; empty unless asked for."""


class Surroundings:
    """Reads what stood around results. Keeps nothing in memory."""

    def __init__(  # what it is made of; built in one place
        self,
        db: Database,
        events: EventCache,
        interning: Interning,
        states: StateStore,
        visibility: VisibilityFilter,
    ) -> None:
        self._db = db
        self._events = events
        self._interning = interning
        self._states = states
        self._visibility = visibility

    async def of(
        self,
        viewer: Viewer,
        targets: Sequence[tuple[Room, PersistedEvent]],
        ends: Mapping[int, Position],
        wanted: EventContext,
    ) -> dict[int, Near]:
        """event_nid -> what stood around it. `ends`: room_nid -> up to where the viewer may read."""
        before, after = min(wanted.before_limit, MAX_AROUND), min(wanted.after_limit, MAX_AROUND)
        async with self._db.read() as tx:
            rows = await store.find_around(
                tx, [(room.name.nid, target.nid) for room, target in targets], before, after
            )
        seen = await self._seen(viewer, {room for room, _ in targets}, ends, {row.near_nid for row in rows})
        found = {target.nid: Near([], [], {}) for _, target in targets}
        for row in rows:  # oldest first
            if (item := seen.get(row.near_nid)) is not None:
                near = found[row.event_nid]
                (near.before if row.near_nid < row.event_nid else near.after).append(item)
        for near in found.values():
            near.before.reverse()
        _bound(found.values())
        if not wanted.include_profile:
            return found
        return await self._with_profiles([target for _, target in targets], found)

    async def _seen(
        self, viewer: Viewer, rooms: Collection[Room], ends: Mapping[int, Position], nids: set[int]
    ) -> dict[int, Visible]:
        by_nid = {room.name.nid: room for room in rooms}
        pages: dict[Room, list[PersistedEvent]] = {}
        for persisted in (await self._events.load(nids)).values():
            if persisted.nid <= ends[persisted.room_nid]:
                pages.setdefault(by_nid[persisted.room_nid], []).append(persisted)
        seen = await self._visibility.many(viewer, pages)
        return {item.persisted.nid: item for items in seen.values() for item in items}

    async def _with_profiles(
        self, targets: Sequence[PersistedEvent], found: Mapping[int, Near]
    ) -> dict[int, Near]:
        senders = {
            target.nid: {
                target.event.sender,
                *(
                    item.persisted.event.sender
                    for item in (*found[target.nid].before, *found[target.nid].after)
                ),
            }
            for target in targets
        }
        keys: dict[str, StateKey] = {
            user: ("m.room.member", user) for users in senders.values() for user in users
        }
        numbers = await self._interning.find_key_nids(list(keys.values()))
        states = await self._states.values(
            {target.state_after_nid for target in targets}, list(numbers.values())
        )
        loaded = await self._events.load({nid for state in states.values() for nid in state.values()} - {0})
        result: dict[int, Near] = {}
        for target in targets:
            state = states[target.state_after_nid]
            members = {
                user: loaded.get(state.get(numbers.get(keys[user], 0), 0)) for user in senders[target.nid]
            }
            profiles = {
                user: _profile(member) for user, member in sorted(members.items()) if member is not None
            }
            result[target.nid] = found[target.nid]._replace(profiles=profiles)
        return result


def _bound(nears: Collection[Near]) -> None:
    """No more than some megabytes for all results: the farthest events go first."""
    share = PAGE_BYTES // max(1, len(nears))
    for near in nears:
        for side in (near.before, near.after):
            left = share // 2
            for at, item in enumerate(side):
                left -= weight(item.persisted)
                if left < 0:
                    del side[at:]
                    break


def _profile(member: PersistedEvent) -> dict[str, str]:
    content = member.event.content
    return {key: content[key] for key in ("displayname", "avatar_url") if isinstance(content.get(key), str)}
