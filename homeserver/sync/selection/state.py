"""State in a sync: up to the beginning of the timeline, or to its end; whole or what has changed.

spec: op:sync `state`, `state_after` (SYNC-05, SYNC-06, SYNC-08)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from homeserver.events.event import StateKey
from homeserver.graph.entry import EventEntry
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import Visible
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Position
from homeserver.runtime.turns import in_turns
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.selection import store
from homeserver.sync.selection.resolution_changes import ResolutionChange, ResolutionChanges
from homeserver.sync.selection.timeline import Timeline, newest_shown
from homeserver.sync.types import SyncRequest

StateNids = dict[StateKey, int]


class StateReader:
    """Reads the state that an answer tells. Keeps nothing in memory."""

    def __init__(self, db: Database, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._states = states
        self._interning = interning

    async def whole(
        self, room: Room, timeline: Timeline | None, request: SyncRequest, *, joined: bool
    ) -> StateNids:
        """All state at the timeline's beginning, or with `state_after` at its end.

        `joined`: the reader may know the present; else the timeline ends where they left.
        """
        raw = timeline.raw if timeline else []
        if raw and _is_line(room, raw):
            return dict(room.state) if request.state_after else _rolled_back(room.state, raw)
        if joined and (request.state_after or not raw):
            return dict(room.state)
        if not raw:
            return await self._named(request.memberships[room.name.nid].event_nid)  # the state after leaving
        before = await self._named(
            raw[-1].state_after_nid if request.state_after else raw[0].state_before.nid
        )
        if not joined:
            return before
        # Branches have met since. What is current and not in the timeline must be said here (SYNC-07).
        shown = {persisted.nid for persisted in raw}
        chosen = {key: before.get(key, 0) if at in shown else at for key, at in room.state.items()}
        return {key: at for key, at in chosen.items() if at}

    async def _named(self, state_nid: int) -> StateNids:
        by_nid = await self._states.load(state_nid)
        keys = await self._interning.keys(by_nid.keys())
        return {keys[key]: event for key, event in by_nid.items()}

    async def changed(
        self,
        request: SyncRequest,
        timelines: Mapping[int, Timeline],
        known: Mapping[int, Position],
        resets: ResolutionChanges,
    ) -> dict[int, StateNids]:
        """room_nid -> state events the client has to learn beside the timeline: those of the gap before it, and what
        resolution has made of the state since.

        With `state_after` also those inside it. `known`: rooms -> where their slice ends. At most one query.
        """
        assert request.since is not None
        gaps: dict[int, tuple[Position, Position]] = {}
        for room, upto in known.items():
            start = timelines[room].start if room in timelines else upto
            if start > request.since:
                gaps[room] = (request.since, min(start, upto))
        news = await self._of_gaps(request, gaps) if gaps else {}
        found: dict[int, StateNids] = {}
        for room, upto in known.items():
            changes = news.get(room, [])
            resolved = [reset for reset in resets.get(room, ()) if reset.position <= upto]
            if request.state_after and room in timelines:
                changes += _of_timeline(timelines[room], resolved)
            if changes or resolved:
                found[room] = _newest_per_key([*changes, *resolved])
        return found

    async def _of_gaps(
        self, request: SyncRequest, gaps: Mapping[int, tuple[Position, Position]]
    ) -> dict[int, list[ResolutionChange]]:
        """Events that became current state, room by room."""
        if request.recent is not None:
            return _from_memory(request.recent, gaps)
        async with self._db.read() as tx, tx.pipeline() as batch:
            rows = store.changed_state(batch, gaps)
        found: dict[int, list[ResolutionChange]] = {}
        async for some in in_turns(rows.result):
            keys = await self._interning.keys({key for _, key, _ in some})
            for room, key, nid in some:
                found.setdefault(room, []).append(ResolutionChange(nid, keys[key], nid))
        return found


def _from_memory(
    log_slice: LogSlice, gaps: Mapping[int, tuple[Position, Position]]
) -> dict[int, list[ResolutionChange]]:
    found: dict[int, list[ResolutionChange]] = {}
    for position, entry in log_slice.of(EventEntry):
        persisted = entry.persisted
        key = persisted.event.key
        if key is None or persisted.flags or entry.superseded is not None:
            continue
        gap = gaps.get(persisted.room_nid)
        if gap is not None and position <= gap[1]:
            found.setdefault(persisted.room_nid, []).append(ResolutionChange(position, key, position))
    return found


def _of_timeline(timeline: Timeline, resets: Sequence[ResolutionChange]) -> list[ResolutionChange]:
    """Its state events that became current state."""
    superseded = {(reset.position, reset.key) for reset in resets}
    found = [
        ResolutionChange(each.nid, each.event.key, each.nid)
        for each in timeline.raw
        if each.event.key is not None
    ]
    return [each for each in found if each[:2] not in superseded]


def _newest_per_key(changes: list[ResolutionChange]) -> StateNids:
    newest: StateNids = {}
    for change in sorted(changes, key=lambda change: change.position):
        newest[change.key] = change.event_nid
    return {key: nid for key, nid in newest.items() if nid}


def _is_line(room: Room, raw: Sequence[PersistedEvent]) -> bool:
    """Whether the events lead one after the other to the room's current state, so that it can be rolled back."""
    if raw[-1].nid != room.last_event or raw[-1].state_after_nid != room.room_state.nid:
        return False
    return all(one.state_after_nid == two.state_before.nid for one, two in itertools.pairwise(raw))


def _rolled_back(state: Mapping[StateKey, int], raw: Sequence[PersistedEvent]) -> StateNids:
    """The state before these events."""
    result = dict(state)
    for persisted in reversed(raw):
        key = persisted.event.key
        if key is None:
            continue
        if persisted.replaced is None:
            result.pop(key, None)
        else:
            result[key] = persisted.replaced.ref.nid
    return result


def unseen_state(
    timeline: Timeline | None, visible: Sequence[Visible], now: Mapping[StateKey, int] | None
) -> StateNids:
    """State events within the timeline that it does not show: filtered out, or not for the reader. (SYNC-05)

    `now`: the room's current state, for who may know it: what lost against another branch is left out.
    """
    if timeline is None or len(visible) == len(timeline.raw):
        return {}
    shown, newest = {item.persisted.nid for item in visible}, newest_shown(visible)
    return {
        key: persisted.nid
        for persisted in timeline.raw
        if (key := persisted.event.key) is not None
        and persisted.nid not in shown
        and newest.get(key, 0) < persisted.nid
        and (now is None or now.get(key) == persisted.nid)
    }
