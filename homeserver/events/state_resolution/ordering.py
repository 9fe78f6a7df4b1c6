"""The orders in which conflicted events are tried: by power (reverse topological) and along the mainline of power levels.

spec: rooms/v2/#definitions (reverse topological power ordering, mainline ordering)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from math import inf

from homeserver.events.auth_rules.power import POWER_LEVELS, levels_in
from homeserver.events.content.power_levels import BadLevel
from homeserver.events.event import Event
from homeserver.events.state_resolution.pool import Pool, Steps
from homeserver.matrix.ids import EventId

PowerKey = tuple[int, int, EventId]
"""Sorts the greater power first, then the earlier time, then the smaller id."""


def is_power_event(event: Event) -> bool:
    """Whether the event might take somebody's ability to act: levels, join rules, and removals of others.

    Only the entries with an empty state key count, because only they have any effect (docs/differences.md).
    """
    if event.key in {POWER_LEVELS, ("m.room.join_rules", ""), ("m.room.create", "")}:
        return True
    return event.membership in {"leave", "ban"} and event.sender != event.state_key


def reverse_topological_power_order(event_ids: Collection[EventId], pool: Pool) -> list[EventId]:
    """Auth events before those they authorise; among what is free to come next, the smallest `PowerKey`.

    Kahn's algorithm over the auth events among `event_ids`. The events and their auth events must be at hand.
    """
    members = frozenset(event_ids)
    waits_for = {e: set(pool.events[e].auth_event_ids) & members for e in members}
    blocks: dict[EventId, list[EventId]] = {event_id: [] for event_id in members}
    for event_id, auth_ids in waits_for.items():
        for auth_id in auth_ids:
            blocks[auth_id].append(event_id)

    free = [
        _power_key(pool.events[event_id], pool) for event_id, auth_ids in waits_for.items() if not auth_ids
    ]
    heapify(free)
    order: list[EventId] = []
    while free:
        _, _, event_id = heappop(free)
        order.append(event_id)
        for next_id in blocks[event_id]:
            waits_for[next_id].discard(event_id)
            if not waits_for[next_id]:
                heappush(free, _power_key(pool.events[next_id], pool))
    return order


def mainline_order(
    event_ids: Iterable[EventId], power_levels: EventId | None, pool: Pool
) -> Steps[list[EventId]]:
    """Events that rest on older power levels first, then the earlier time, then the smaller id.

    `power_levels` is the m.room.power_levels event the mainline starts from. The events and their auth events must be at
    hand; further m.room.power_levels events are asked for as the mainline is followed.
    """
    mainline = _Mainline(power_levels, pool)
    keys: list[tuple[float, int, EventId]] = []
    for event_id in event_ids:
        event = pool.events[event_id]
        position = yield from mainline.position(event)
        keys.append((-position, event.origin_server_ts, event_id))
    return [event_id for _, _, event_id in sorted(keys)]


def _power_key(event: Event, pool: Pool) -> PowerKey:
    try:
        level = levels_in(pool.auth_state(event), pool.version).user_level(event.sender)
    except BadLevel:
        level = 0
    return -level, event.origin_server_ts, event.event_id


class _Mainline:
    """The mainline of an m.room.power_levels event, followed only as far as somebody has asked.

    Most events rest on recent levels, while the mainline reaches back to the beginning of the room. So a search takes one
    step from the event and one along the mainline in turn; each power levels event is visited once in all.
    """

    def __init__(self, power_levels: EventId | None, pool: Pool) -> None:
        self._pool = pool
        self._index: dict[EventId, float] = {}
        self._next = power_levels
        self._known: dict[EventId, float] = {}

    def position(self, event: Event) -> Steps[float]:
        """The index in the mainline of the nearest power levels event the given event rests on; infinite if there is none."""
        if not self._index:
            yield from self._extend()
        path: list[EventId] = []
        on_path: set[EventId] = set()
        position = inf
        step = yield from self._power_levels_of(event)
        while step is not None or (self._next is not None and path):
            if step is not None:
                nearest = self._index.get(step, self._known.get(step))
                if nearest is not None:
                    position = nearest
                    break
                path.append(step)
                on_path.add(step)
                step = yield from self._power_levels_of(self._pool.events[step])
            met = yield from self._extend()
            if met in on_path:
                position = self._index[met]
                break
        # Whoever rests on these finds the same: except behind the place where the two lines met.
        for event_id in path:
            self._known[event_id] = position
            if event_id in self._index:
                break
        return position

    def _extend(self) -> Steps[EventId | None]:
        """Follow the mainline by one; returns what was added."""
        added = self._next
        if added is not None:
            self._index[added] = len(self._index)
            yield from self._pool.load((added,))
            self._next = yield from self._power_levels_of(self._pool.events[added])
        return added

    def _power_levels_of(self, event: Event) -> Steps[EventId | None]:
        yield from self._pool.load(event.auth_event_ids)
        for auth_id in event.auth_event_ids:
            if self._pool.events[auth_id].key == POWER_LEVELS:
                return auth_id
        return None
