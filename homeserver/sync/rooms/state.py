"""State in a sync: up to the beginning of the timeline, or to its end; whole or what has changed.

spec: op:sync `state`, `state_after` (SYNC-05, SYNC-06, SYNC-08)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from homeserver.events.event import StateKey
from homeserver.graph.entry import EventEntry
from homeserver.graph.interning import Interning
from homeserver.graph.room import Room
from homeserver.graph.states import StateStore
from homeserver.graph.stored import Stored
from homeserver.graph.visibility import Visible
from homeserver.log.entries import Position
from homeserver.storage.database import Database
from homeserver.sync.rooms import store
from homeserver.sync.rooms.timeline import Timeline
from homeserver.sync.types import Ask

StateNids = dict[StateKey, int]


class StateReader:
    """One per process."""

    def __init__(self, db: Database, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._states = states
        self._interning = interning

    async def whole(self, room: Room, timeline: Timeline | None, ask: Ask) -> StateNids:
        """All state at the timeline's beginning, or with `state_after` at its end."""
        raw = timeline.raw if timeline else []
        if raw and _is_line(room, raw):
            return dict(room.state) if ask.state_after else _rolled_back(room.state, raw)
        state_nid = (
            (raw[-1].state_after_nid if ask.state_after else raw[0].state_before.nid)
            if raw
            else room.room_state.nid
        )
        by_nid = await self._states.load(state_nid)
        keys = await self._interning.keys(by_nid.keys())
        return {keys[key]: event for key, event in by_nid.items()}

    async def changed(
        self, ask: Ask, timelines: Mapping[int, Timeline], known: Mapping[int, Position]
    ) -> dict[int, set[int]]:
        """room_nid -> state events the client has to learn beside the timeline: those of the gap before it.

        With `state_after` also those inside it. `known`: rooms -> where their stretch ends. At most one query.
        """
        assert ask.since is not None
        found: dict[int, set[int]] = {}
        gaps: dict[int, tuple[Position, Position]] = {}
        for room, upto in known.items():
            timeline = timelines.get(room)
            if timeline is None:
                continue
            if ask.state_after:
                found[room] = {s.nid for s in _newest_per_key(timeline.raw)}
            if timeline.start > ask.since:
                gaps[room] = (ask.since, min(timeline.start, upto))
        if not gaps:
            return found
        if ask.recent is not None:
            for room, nids in self._gap_from_memory(ask, gaps).items():
                found.setdefault(room, set()).update(nids)
            return found
        async with self._db.read() as tx:
            for room, numbers in (await store.changed_state(tx, gaps)).items():
                found.setdefault(room, set()).update(numbers)
        return found

    def _gap_from_memory(
        self, ask: Ask, gaps: Mapping[int, tuple[Position, Position]]
    ) -> dict[int, set[int]]:
        assert ask.recent is not None
        by_room: dict[int, dict[StateKey, int]] = {}
        for position, entry in ask.recent.get(EventEntry, ()):
            room = entry.stored.room_nid
            key = entry.stored.event.key
            if room in gaps and position <= gaps[room][1] and key is not None and not entry.stored.flags:
                by_room.setdefault(room, {})[key] = position
        return {room: set(keys.values()) for room, keys in by_room.items()}


def _is_line(room: Room, raw: list[Stored]) -> bool:
    """Whether the events lead one after the other to the room's current state, so that it can be rolled back."""
    if raw[-1].nid != room.last_event or raw[-1].state_after_nid != room.room_state.nid:
        return False
    return all(one.state_after_nid == two.state_before.nid for one, two in itertools.pairwise(raw))


def _rolled_back(state: Mapping[StateKey, int], raw: list[Stored]) -> StateNids:
    """The state before these events."""
    result = dict(state)
    for stored in reversed(raw):
        key = stored.event.key
        if key is None:
            continue
        if stored.replaced is None:
            result.pop(key, None)
        else:
            result[key] = stored.replaced.ref.nid
    return result


def unseen_state(timeline: Timeline | None, visible: Sequence[Visible]) -> StateNids:
    """State events within the timeline that it does not show: filtered out, or not for the reader. (SYNC-05)"""
    if timeline is None or len(visible) == len(timeline.raw):
        return {}
    shown = {item.stored.nid for item in visible}
    return {
        stored.event.key: stored.nid
        for stored in timeline.raw
        if stored.event.key is not None and stored.nid not in shown
    }


def _newest_per_key(raw: list[Stored]) -> list[Stored]:
    return list({stored.event.key: stored for stored in raw if stored.event.key is not None}.values())
