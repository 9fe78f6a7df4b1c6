"""Older events of a room, found in the gaps of its history: told in no sync, and shown where they belong.

They are judged by their auth events and the state before them; the room's current state has no say.
spec: server-server-api/#backfilling-and-retrieving-missing-events, #checks-performed-on-receipt-of-a-pdu (steps 4 and 5)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from psycopg import IntegrityError
from typing_extensions import override

from homeserver.events.event import Event
from homeserver.graph.entry import BackfillEntry, EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write import gap_store
from homeserver.graph.write.forward_extremities import ForwardExtremities
from homeserver.graph.write.receive import (
    MissingEvents,
    also_named,
    built,
    by_passage,
    examined,
    require_own_ids,
)
from homeserver.graph.write.receive_material import Material, Sources
from homeserver.graph.write.receive_rules import Known
from homeserver.graph.write.receive_run import Run
from homeserver.graph.write.receive_states import After, Before, State
from homeserver.log.entries import Append, Conflict
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import EventId, ServerName
from homeserver.policy.gate import Gate
from homeserver.policy.passages import Passage

MAX_EVENTS = 500
"""In one call."""
MAX_TRIES = 20
MAX_BELOW = 500
"""Events that are missing below joins and are looked at."""


class Bottom(NamedTuple):
    """Where a room begins for this server: its latest join through another one that lacks what comes before it."""

    missing: Sequence[EventId]
    """What this join names, or what was found before it since, and is not here; then the same of earlier joins."""
    depth: int
    origin_server_ts: int
    """Unix ms; both of the join, as whoever made them claims."""

    def seems_below(self, event: Event) -> bool:
        """Whether an event says that it is older than the join."""
        return event.depth < self.depth and event.origin_server_ts < self.origin_server_ts


class PastRun(Run):
    """A run of events that do nothing to the room as it is."""

    @override
    async def _room_state(self, event: Event, prev: Sequence[PersistedEvent], before: Before) -> Known:
        del event, prev
        return before.relevant

    @override
    async def _room_with(
        self, persisted: PersistedEvent, auth: Sequence[PersistedEvent], before: State, own: State
    ) -> After:
        del persisted, auth, before, own
        return After(self._base, self._current)


class Backfill:
    """Writes what was found in gaps. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        log: LogWriter,
        rooms: Rooms,
        sources: Sources,
        extremities: ForwardExtremities,
        gate: Gate,
        server_name: ServerName,
    ) -> None:
        self._log = log
        self._rooms = rooms
        self._sources = sources
        self._forward_extremities = extremities
        self._gate = gate
        self._server_name = server_name

    async def bottom(self, room_nid: int) -> Bottom | None:
        """Where the room begins for this server; None: with the room itself, or all that comes before is here. One query."""
        async with self._sources.db.read() as tx:
            found = await gap_store.find_below_joins(tx, room_nid, MAX_BELOW)
        if not found:
            return None
        join = (await self._sources.events.load([found[0][0]]))[found[0][0]].event
        return Bottom([event_id for _, event_id in found], join.depth, join.origin_server_ts)

    async def add(
        self, room_nid: int, events: Sequence[Event], state_before_oldest: Collection[EventId] | None
    ) -> list[PersistedEvent]:
        """Write events, signatures and hashes checked, in any order, that lead to one that is here and names what is missing
        (`backward_extremities`). Others, and those that are here, are passed over. At most `MAX_EVENTS`.

        `state_before_oldest`: the state before those of them whose previous events are neither here nor among them, by events
        that are here (outliers, too); None: there are none such. Returns the new ones, the oldest first, with flags.

        What policy refuses is soft failed.
        Raises `MissingEvents` (auth events, or previous ones and no state is given): nothing was written; `EventIdTaken`;
        `ValueError` for too many; `Unavailable`: the room is too busy.
        """
        if len(events) > MAX_EVENTS:
            raise ValueError(f"more than {MAX_EVENTS} events at once")
        room = await self._rooms.get(room_nid)
        material = Material(room.name, self._sources)
        ordered = _oldest_first({event.event_id: event for event in events})
        await material.gather(ordered, also_named(ordered))
        require_own_ids(material, room.name, ordered)
        gaps = _gaps(ordered, material.missed)
        rest = [each for each in ordered if each.event_id in gaps and not material.is_here(each.event_id)]
        if not rest:
            return []
        open_ = _open(material, room, rest)
        missing = [each for event in rest for each in event.auth_event_ids if each not in material.by_id]
        missing = [each for each in missing if each not in gaps]
        if open_ and state_before_oldest is None:
            missing += [each for found in open_.values() for each in found]
        if missing:
            raise MissingEvents(list(dict.fromkeys(missing)))
        await material.tell_states(dict.fromkeys(open_, state_before_oldest or ()))
        passages = await examined(self._gate, rest)
        numbers = await self._numbers(rest, gaps)
        found = rest
        await self._write_all(room_nid, material, rest, _Places(gaps, numbers, open_, passages))
        return [material.by_id[event.event_id] for event in found]

    async def _numbers(self, events: Sequence[Event], gaps: Mapping[EventId, int]) -> dict[EventId, int]:
        by_gap: dict[int, list[EventId]] = defaultdict(list)
        for event in events:
            by_gap[gaps[event.event_id]].append(event.event_id)
        numbers: dict[EventId, int] = {}
        for gap, ids in by_gap.items():
            async with self._sources.db.transaction() as tx:
                taken = await gap_store.take_numbers(tx, gap, len(ids))
            numbers |= zip(ids, taken, strict=True)
        return numbers

    async def _write_all(
        self, room_nid: int, material: Material, rest: Sequence[Event], places: _Places
    ) -> None:
        for _ in range(len(rest) + MAX_TRIES):
            if not rest:
                return
            room = await self._rooms.get(room_nid)
            try:
                await self._write_run(room, material, rest, places)
            except (Conflict, IntegrityError):  # the room has moved on, or others have found the same
                await self._rooms.latest(room_nid)
                material.forget_rows()
                await material.look_again(rest)
            rest = [event for event in rest if not material.is_here(event.event_id)]
        raise Unavailable("The room is too busy, try again")

    async def _write_run(
        self, room: Room, material: Material, rest: Sequence[Event], places: _Places
    ) -> None:
        if any(entry.changes for entry in room.pending):
            await self._log.add(Append(()))
        refused = {event_id for event_id, passage in places.passages.items() if passage.refused}
        entries = await built(
            lambda: PastRun(room, material, self._forward_extremities, self._server_name),
            self._rooms,
            room,
            rest,
            refused,
        )
        for some, passage in by_passage(entries, places.passages):
            await self._log.add(Append([places.entry(room.name.nid, some)], cause=passage))
            for row in some:
                material.written(row)


class _Places:
    """Where the events of a call belong."""

    def __init__(
        self,
        gaps: Mapping[EventId, int],
        numbers: Mapping[EventId, int],
        open_: Mapping[EventId, Sequence[EventId]],
        passages: Mapping[EventId, Passage],
    ) -> None:
        self.passages = passages
        self._gaps = gaps
        self._numbers = numbers
        self._open = open_

    def entry(self, room_nid: int, entries: Sequence[EventEntry]) -> BackfillEntry:
        missing: dict[int, dict[EventId, None]] = defaultdict(dict)
        rows: list[tuple[int, EventEntry]] = []
        for entry in entries:
            event_id = entry.persisted.event.event_id
            rows.append((self._numbers[event_id], entry))
            missing[self._gaps[event_id]].update(dict.fromkeys(self._open.get(event_id, ())))
        return BackfillEntry(
            room_nid, tuple(rows), tuple((gap, tuple(found)) for gap, found in missing.items())
        )


def _open(material: Material, room: Room, events: Sequence[Event]) -> dict[EventId, list[EventId]]:
    """Event -> its previous events that are neither here nor among the events; of those that have such."""
    among = {event.event_id for event in events}

    def is_here(event_id: EventId) -> bool:
        known = material.by_id.get(event_id)
        return known is not None and known.room_nid == room.name.nid and material.is_here(event_id)

    found = {
        event.event_id: [each for each in event.prev_event_ids if each not in among and not is_here(each)]
        for event in events
    }
    return {event_id: missing for event_id, missing in found.items() if missing}


def _oldest_first(events: Mapping[EventId, Event]) -> list[Event]:
    """Each after those of the events that it names; else by depth and time. Those that name each other in a circle are left out."""
    waits = {
        event_id: {each for each in (*event.prev_event_ids, *event.auth_event_ids) if each in events}
        for event_id, event in events.items()
    }
    ordered: list[Event] = []
    done: set[EventId] = set()
    rest = sorted(events.values(), key=lambda each: (each.depth, each.origin_server_ts, each.event_id))
    while rest:
        later: list[Event] = []
        for event in rest:
            if waits[event.event_id] <= done:
                ordered.append(event)
                done.add(event.event_id)
            else:
                later.append(event)
        if len(later) == len(rest):
            break
        rest = later
    return ordered


def _gaps(ordered: Sequence[Event], missed: Mapping[EventId, int]) -> dict[EventId, int]:
    """Event -> the gap that it lies in, of those that lead to an event behind one."""
    gaps = dict(missed)
    for event in reversed(ordered):
        gap = gaps.get(event.event_id)
        if gap is not None:
            for each in event.prev_event_ids:
                gaps.setdefault(each, gap)
    among = {event.event_id for event in ordered}
    return {event_id: gap for event_id, gap in gaps.items() if event_id in among}
