"""Outliers: events whose state is not known. Auth chains, old state, and the state of a room that is being joined.

They are judged by their own auth events, stored, and told to nobody; `Receiver` and backfill find them here, and the state of a
room may name them. Stored some at a time under the lock on the log, where others may continue chains of the auth graph too.
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (step 4), #rejection
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from homeserver.events.event import Event, StateKey
from homeserver.events.packing import pack
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER, REJECTED
from homeserver.graph.state import chains
from homeserver.graph.write import outliers_store as store
from homeserver.graph.write.auth_order import (
    JUDGED_GRAPH,
    AuthJudge,
    cited_by,
    decode_verdict,
    first_frame,
    frame_of,
    in_auth_order,
)
from homeserver.graph.write.outliers_store import OutlierRow
from homeserver.graph.write.receive import MissingEvents
from homeserver.log import head as log_head
from homeserver.matrix.ids import EventId, UserId
from homeserver.runtime.computing import ComputeProcesses
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database

AT_ONCE = 200
"""Events that are written in one transaction: writers wait that long, about 10 ms."""
JUDGED_AT_ONCE = 50
"""Events that are judged or packed in one turn of the event loop."""
MANY = 500
"""From so many new events on they are judged in a process of their own."""
NOTHING_STORED: Mapping[EventId, bytes] = MappingProxyType({})
NAMES_AT_ONCE = 2_000
"""Users and state keys that are given numbers in one transaction."""


class _Material(NamedTuple):
    """What is known of a room's new outliers before any is written."""

    room: RoomIdentity
    events: Sequence[Event]
    """New ones, each after those that it rests on."""
    known: Mapping[EventId, PersistedEvent]
    """What they cite and is here."""
    rejected: Collection[EventId]
    users: Mapping[UserId, int]
    keys: Mapping[StateKey, int]
    stored: Mapping[EventId, bytes]
    """Stored forms that have been made already."""


class _Names(NamedTuple):
    """What events name."""

    cited: set[EventId]
    senders: set[UserId]
    keys: set[StateKey]


class Outliers:
    """Stores outliers. Keeps nothing in memory."""

    def __init__(
        self, db: Database, events: EventCache, interning: Interning, computing: ComputeProcesses
    ) -> None:
        self._db = db
        self._events = events
        self._interning = interning
        self._computing = computing

    async def add(
        self, room: RoomIdentity, events: Sequence[Event], stored: Mapping[EventId, bytes] = NOTHING_STORED
    ) -> None:
        """Store events of one room, signatures and hashes checked, in any order; those that are here are passed over.

        Their auth events must be here or among them. What its auth events do not allow is stored as rejected. May be called
        again after a failure: what was stored stays. `stored`: the stored forms of some of them, where they have been made.
        Raises `MissingEvents`; `ValueError` for an event of another room; `Unavailable`.
        """
        if any(event.room_id != room.room_id for event in events):
            raise ValueError("an event of another room")
        material = await self._look(room, events, stored)
        for some in pieces(material.events, AT_ONCE):
            await next_turn()
            await self._write(material, some)

    async def _look(
        self, room: RoomIdentity, events: Sequence[Event], stored: Mapping[EventId, bytes]
    ) -> _Material:
        numbers = await self._numbers({event.event_id for event in events})
        new = {event.event_id: event for event in events if event.event_id not in numbers}
        named = await _names_of(new.values())
        cited = named.cited - new.keys()
        numbers = await self._numbers(cited)
        if missing := cited - numbers.keys():
            raise MissingEvents(sorted(missing))
        loaded = await self._events.load(numbers.values())
        known = {event_id: loaded[nid] for event_id, nid in numbers.items()}
        judging = asyncio.create_task(self._judged(room, new, known))
        try:
            users = await self._user_nids(named.senders)
            keys = await self._key_nids(named.keys)
            ordered, rejected = await judging
        finally:
            judging.cancel()
        return _Material(room, ordered, known, rejected, users, keys, stored)

    async def _judged(
        self,
        room: RoomIdentity,
        new: Mapping[EventId, Event],
        known: Mapping[EventId, PersistedEvent],
    ) -> tuple[Sequence[Event], Collection[EventId]]:
        """Events in order, and those that their auth events do not allow."""
        rejected = {event_id for event_id, persisted in known.items() if persisted.flags & REJECTED}
        if len(new) >= MANY:
            given = frame_of([persisted.event for persisted in known.values()], rejected)
            frames = first_frame(room.version.id, given)
            for some in pieces(new.values(), NAMES_AT_ONCE):
                await next_turn()
                frames.append(frame_of(some))
            verdict = decode_verdict(await self._computing.run(JUDGED_GRAPH, frames))
            return [new[event_id] for event_id in verdict.ordered], verdict.rejected
        ordered = in_auth_order(new.values())
        judge = AuthJudge({event_id: persisted.event for event_id, persisted in known.items()}, rejected)
        judge.rejected.update(event.event_id for event in ordered.circular)
        for some in pieces(ordered.events, JUDGED_AT_ONCE):
            await next_turn()
            judge.judge(some)
        return [*ordered.events, *ordered.circular], judge.rejected

    async def _numbers(self, event_ids: Iterable[EventId]) -> dict[EventId, int]:
        found: dict[EventId, int] = {}
        for some in pieces(event_ids, NAMES_AT_ONCE):
            found |= await self._events.numbers(some)
        return found

    async def _user_nids(self, user_ids: Iterable[UserId]) -> dict[UserId, int]:
        found: dict[UserId, int] = {}
        for some in pieces(user_ids, NAMES_AT_ONCE):
            found |= await self._interning.user_nids(some)
        return found

    async def _key_nids(self, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        found: dict[StateKey, int] = {}
        for some in pieces(keys, NAMES_AT_ONCE):
            found |= await self._interning.key_nids(some)
        return found

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write(self, material: _Material, events: Sequence[Event]) -> None:
        """One piece, in one transaction. It is flushed: the next pieces, and who asked, rely on it though the database restarts."""
        forms: dict[EventId, bytes] = {}
        for some in pieces(events, JUDGED_AT_ONCE):
            await next_turn()
            forms.update(
                (event.event_id, material.stored.get(event.event_id) or _stored_form(event)) for event in some
            )
        cited = {each for event in events for each in event.auth_event_ids}
        async with self._db.transaction() as tx:
            async with tx.pipeline() as batch:
                given = store.next_numbers(batch, len(events))
                log_head.lock(batch)  # nobody else writes one of them, or continues a chain
                found = store.find_numbers(batch, [*cited, *forms])
            nids = sorted(nid for (nid,) in given.result)
            numbers = dict(found.result)
            async with tx.pipeline() as batch:
                places = chains.find_rows(batch, list(numbers.values()))
                unplaced = store.find_unplaced(batch, list(numbers.values()))
            new = [event for event in events if event.event_id not in numbers]
            late = _late(material.known, {nid for (nid,) in unplaced.result})
            numbers |= dict(zip((event.event_id for event in new), nids, strict=False))
            placer = chains.Placer(places.result)
            placed = _place(placer, late, numbers)
            rows = [
                OutlierRow(
                    numbers[event.event_id],
                    event.event_id,
                    material.users[event.sender],
                    event.origin_server_ts,
                    material.keys[event.key] if event.key is not None else 0,
                    OUTLIER | (REJECTED if event.event_id in material.rejected else 0),
                    forms[event.event_id],
                    _place_one(placer, event, numbers),
                )
                for event in new
            ]
            async with tx.pipeline(commit=True) as batch:
                if rows:
                    store.insert_outliers(batch, material.room.nid, rows)
                if placed:
                    chains.update_rows(batch, placed)


async def _names_of(events: Iterable[Event]) -> _Names:
    names = _Names(set(), set(), set())
    for some in pieces(events, NAMES_AT_ONCE):
        await next_turn()
        for event in some:
            names.cited.update(cited_by(event))
            names.senders.add(event.sender)
            if event.key is not None:
                names.keys.add(event.key)
    return names


def _stored_form(event: Event) -> bytes:
    return event.pdu if event.key is None else pack(event.pdu, event.room_id, {})


def _late(known: Mapping[EventId, PersistedEvent], unplaced: Collection[int]) -> list[Event]:
    """Events that were written when what they rest on was not here yet: memberships of rooms that we were not in."""
    if not unplaced:
        return []
    return in_auth_order(each.event for each in known.values() if each.nid in unplaced).events


def _place(
    placer: chains.Placer, events: Sequence[Event], numbers: Mapping[EventId, int]
) -> list[chains.Row]:
    rows = [_place_one(placer, event, numbers) for event in events]
    return [row for row in rows if row is not None]


def _place_one(placer: chains.Placer, event: Event, numbers: Mapping[EventId, int]) -> chains.Row | None:
    """Its place in the chain cover: state events have one, if all that they rest on have."""
    if event.key is None or any(each not in numbers for each in event.auth_event_ids):
        return None
    return placer.place(numbers[event.event_id], {numbers[each] for each in event.auth_event_ids})
