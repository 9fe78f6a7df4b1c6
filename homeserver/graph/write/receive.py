"""Events made elsewhere become part of a room: the state before them, the rules, the room's new forward extremities and state.

Signatures and hashes have been checked by whoever got the events. Those that come together are written together (`Run`).
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6), #rejection, #soft-failure
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from psycopg import IntegrityError

from homeserver.events.event import Event
from homeserver.events.parse import MAX_AUTH_EVENTS, MAX_PREV_EVENTS, EventFormatError
from homeserver.graph.entry import EventEntry
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER
from homeserver.graph.relations import relation_of
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.forward_extremities import ForwardExtremities
from homeserver.graph.write.receive_material import Material, Sources
from homeserver.graph.write.receive_run import Run
from homeserver.log.entries import Alongside, Append, Conflict, Entry
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import EventId, ServerName
from homeserver.policy.gate import Gate
from homeserver.policy.passages import Passage

MAX_TRIES = 60
EXAMINED_AT_ONCE = 20
"""Events that policy checks look at at the same time."""
NO_STATES: Mapping[EventId, Collection[EventId]] = MappingProxyType({})


class MissingEvents(Exception):
    """Events that these refer to are not here; fetch them first."""

    def __init__(self, event_ids: Sequence[EventId]) -> None:
        super().__init__(f"{len(event_ids)} events are not here")
        self.event_ids = list(event_ids)


class EventIdTaken(Exception):
    """The ids belong to other events: of other rooms, or, in versions 1 and 2, with other content. Nothing was written.

    spec: rooms/v1/#event-ids (servers choose them)
    """

    def __init__(self, event_ids: Sequence[EventId]) -> None:
        super().__init__(f"{len(event_ids)} event ids are taken")
        self.event_ids = list(event_ids)


class Apart(Exception):
    """Events cannot be written together. Nothing was written."""


class BelowJoin(Exception):
    """Events lie before a join of ours through another server: they are history, for `Backfill`. Nothing was written."""

    def __init__(self, event_ids: Collection[EventId]) -> None:
        super().__init__(f"{len(event_ids)} events are history")
        self.event_ids = frozenset(event_ids)


class Receiver:
    """Takes events made elsewhere into rooms: state before, auth rules, resolution, append. Keeps nothing in memory."""

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

    async def receive(self, event: Event) -> PersistedEvent:
        """One event of a room that is known: see `receive_many`."""
        room = await self._rooms.known(event.room_id)
        return (await self.receive_many(room.name.nid, [event]))[0]

    async def receive_many(
        self,
        room_nid: int,
        events: Sequence[Event],
        *,
        states: Mapping[EventId, Collection[EventId]] = NO_STATES,
        alongside: Alongside | None = None,
    ) -> list[PersistedEvent]:
        """Write events of one room, each after those of `events` that it names; or return them if they are here.

        Previous and auth events must be here (auth events may be outliers) or among `events`. Of an event in `states` previous
        events may be missing: `states` names the whole state before it, by events that are here (outliers, too); it is resolved
        with the states after those of its previous events that are here. The events that are missing before it may be asked for
        later (`Backfill`).

        `alongside`: written in the same transaction; raises `Apart` if all of them cannot be written together.

        Flags say whether an event was rejected or soft failed. What policy refuses is soft failed: later events build on it,
        but nobody is told of it. Written in as few appends as can be, in order; what was written before something failed stays.

        Raises `MissingEvents`, `EventIdTaken`, `BelowJoin`, `EventFormatError` (more than 20 previous or 10 auth events): nothing
        was written.
        `Unavailable`: the room is too busy, or a policy check fails.
        spec: server-server-api/#soft-failure
        """
        events = list({event.event_id: event for event in events}.values())
        if not events:
            return []
        room = await self._rooms.get(room_nid)
        _check_bounds(events)
        material = Material(room.name, self._sources)
        await material.gather(events, also_named(events))
        require_own_ids(material, room.name, events)
        if below := [each for each in material.below_joins if not material.is_here(each)]:
            raise BelowJoin(below)
        _check_here(material, room.name, events, states)
        await material.tell_states(states)
        rest = [event for event in events if not material.is_here(event.event_id)]
        passages = await examined(self._gate, rest)
        if alongside is not None and len(rest) < len(events):
            raise Apart
        await self._write_all(room_nid, material, rest, passages, alongside)
        return [material.by_id[event.event_id] for event in events]

    async def _write_all(
        self,
        room_nid: int,
        material: Material,
        rest: Sequence[Event],
        passages: Mapping[EventId, Passage],
        alongside: Alongside | None,
    ) -> None:
        """Run by run. A conflict is one of others who are faster: their number is not bounded by how many events there are."""
        tries = 0
        material.find_lines(rest)
        while rest:
            room = await self._settled(room_nid)
            failed = None
            try:
                await self._write_run(room, material, rest, passages, alongside)
            except Conflict:
                # Others have written, perhaps these very events; and the room may have left memory meanwhile.
                await self._rooms.latest(room_nid)
                material.forget_rows()
            except IntegrityError as error:  # one that changes nothing of the room meets no conflict
                failed = error
            before = len(rest)
            rest = [event for event in rest if not material.is_here(event.event_id)]
            if len(rest) == before:
                await material.look_again(rest)
                rest = [event for event in rest if not material.is_here(event.event_id)]
            if len(rest) < before:
                tries = 0
                await self._forward_extremities.merge(room_nid)
            elif failed is not None:
                raise failed
            elif (tries := tries + 1) >= MAX_TRIES:
                raise Unavailable("The room is too busy, try again")

    async def _settled(self, room_nid: int) -> Room:
        """The room, when nothing in flight in this process changes its state."""
        room = await self._rooms.get(room_nid)
        if any(entry.changes for entry in room.pending):
            await self._log.add(Append(()))
            room = await self._rooms.get(room_nid)
        return room

    async def _write_run(
        self,
        room: Room,
        material: Material,
        rest: Sequence[Event],
        passages: Mapping[EventId, Passage],
        alongside: Alongside | None,
    ) -> None:
        """Build the first of the events on the room, and write them. Raises `Conflict`: none or some were written."""
        refused = {event_id for event_id, passage in passages.items() if passage.refused}
        entries = await built(lambda: self._run(room, material), self._rooms, room, rest, refused)
        appends = [Append(some, cause=passage) for some, passage in by_passage(entries, passages)]
        if alongside is not None:
            if len(appends) > 1 or len(entries) < len(rest):
                raise Apart
            appends[0].alongside = alongside
        if len(appends) == 1:
            count = len(entries)
            appends[0].build_again = lambda: self._build_again(room.name.nid, material, rest[:count], refused)
        outcomes = await asyncio.gather(*map(self._log.add, appends), return_exceptions=True)
        for append, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            for entry in _events_of(append):
                material.written(entry)

    def _run(self, room: Room, material: Material) -> Run:
        return Run(room, material, self._forward_extremities, self._server_name)

    def _build_again(
        self, room_nid: int, material: Material, events: Sequence[Event], refused: Collection[EventId]
    ) -> Sequence[Entry]:
        """The entries of an append that others were faster than, on the room as it is now, from what is in memory."""
        room = self._rooms.cached(room_nid)
        if room is None:
            raise Conflict("the room is no longer in memory")
        material.closed = True
        try:
            entries = _at_once(self._run(room, material).build(events, refused))
        finally:
            material.closed = False
        if len(entries) < len(events):
            raise Conflict("they cannot be written together any more")
        return entries


async def built(
    run_on: Callable[[], Run], rooms: Rooms, room: Room, events: Sequence[Event], refused: Collection[EventId]
) -> list[EventEntry]:
    """The first of the events, built on the room in memory. `run_on`: a new run on it. Raises `Conflict`: it has moved on."""
    for _ in range(2):  # most is loaded by the first attempt
        run = run_on()
        entries = await run.build(events, refused)
        if run.fits and rooms.cached(room.name.nid) is room:
            return entries
    raise Conflict("the room has moved on while events were built on it")


def _at_once(building: Coroutine[Any, Any, list[EventEntry]]) -> list[EventEntry]:
    """What a coroutine returns that has nothing to wait for. Raises what it raises."""
    try:
        building.send(None)
    except StopIteration as done:
        result: list[EventEntry] = done.value
        return result
    building.close()
    raise Conflict("something must be waited for")


async def examined(gate: Gate, events: Sequence[Event]) -> dict[EventId, Passage]:
    """What policy says of events: each is looked at once, however often it is built."""
    found: dict[EventId, Passage] = {}
    asked: list[Event] = []
    for event in events:
        passage = gate.spare(event)
        if passage is None:
            asked.append(event)
        else:
            found[event.event_id] = passage
    for start in range(0, len(asked), EXAMINED_AT_ONCE):
        some = asked[start : start + EXAMINED_AT_ONCE]
        passages = await asyncio.gather(*(gate.examine(event) for event in some))
        found |= zip((event.event_id for event in some), passages, strict=True)
    return found


def by_passage(
    entries: Sequence[EventEntry], passages: Mapping[EventId, Passage]
) -> list[tuple[list[EventEntry], Passage]]:
    """As few appends as can be, in order: an append has one cause."""

    def cause(entry: EventEntry) -> tuple[str | None, tuple[str, ...]]:
        passage = passages[entry.persisted.event.event_id]
        return passage.reason, passage.labels

    found: list[tuple[list[EventEntry], Passage]] = []
    for _, alike in groupby(entries, cause):
        some = list(alike)
        found.append((some, passages[some[0].persisted.event.event_id]))
    return found


def _events_of(append: Append) -> list[EventEntry]:
    return [entry for entry in append.entries if isinstance(entry, EventEntry)]


def also_named(events: Iterable[Event]) -> set[EventId]:
    """What events relate to, or redact."""
    related = {relation.parent_id for event in events if (relation := relation_of(event)) is not None}
    return related | {event.redacts for event in events if event.redacts is not None}


def _check_bounds(events: Iterable[Event]) -> None:
    for event in events:
        # spec: server-server-api/#pdus (EVT-03)
        if len(event.prev_event_ids) > MAX_PREV_EVENTS:
            raise EventFormatError("prev_events", f"more than {MAX_PREV_EVENTS}")
        if len(event.auth_event_ids) > MAX_AUTH_EVENTS:
            raise EventFormatError("auth_events", f"more than {MAX_AUTH_EVENTS}")


def require_own_ids(material: Material, room: RoomIdentity, events: Sequence[Event]) -> None:
    """Raises `EventIdTaken`."""
    taken: list[EventId] = []
    for event in events:
        known = material.by_id.get(event.event_id)
        if known is None:
            continue
        other = known.room_nid != room.nid or event.room_id != room.room_id
        if not other and not room.version.hash_ids:
            other = known.event.fields.get("hashes") != event.fields.get("hashes")
        if other:
            taken.append(event.event_id)
    if taken:
        raise EventIdTaken(taken)


def _check_here(
    material: Material,
    room: RoomIdentity,
    events: Sequence[Event],
    states: Mapping[EventId, Collection[EventId]],
) -> None:
    """Whether what events name is here, or comes before them: nothing stands on what comes later."""
    here = {
        event_id: known.flags & OUTLIER
        for event_id, known in material.by_id.items()
        if known.room_nid == room.nid
    }
    missing: dict[EventId, None] = {}
    for event in events:
        if here.get(event.event_id, OUTLIER) & OUTLIER:
            missing.update((each, None) for each in event.auth_event_ids if each not in here)
            if event.event_id not in states:
                missing.update((each, None) for each in event.prev_event_ids if here.get(each, OUTLIER))
        here[event.event_id] = 0
    if missing:
        raise MissingEvents(list(missing))
