"""Loading events, with a cache of bounded size. An event is parsed at most once while it stays in the cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, LiteralString, NamedTuple
from weakref import WeakSet, WeakValueDictionary

from homeserver.events.packing import MARK, Opened, unpack
from homeserver.events.parse import event_from_storage
from homeserver.events.push_facts import Facts, plain
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent, Replaced, SentBy
from homeserver.graph.refs import OUTLIER, EventRef, StateRef
from homeserver.matrix.ids import EventId, RoomId, is_event_id
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import merged, next_turn, pieces
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline, Tx

SHARE = 4.0
AT_ONCE = 5_000
"""Events looked up together, in memory or with one query."""
MAX_EMPTY = 1_000
"""Sets of events that have gone before they are looked for among those of events that have replaced another."""
BUILT_AT_ONCE = 500
"""Events loaded with one query: they are made in one turn of the event loop, and each takes some 20 us."""

# `position > 0` is what the index of positions is made for; LIMIT keeps PostgreSQL from reading all of them at once.
SELECT: LiteralString = """
    SELECT e.event_nid, e.room_nid, e.event_id, e.sender_nid, e.state_nid, e.flags, e.pdu, e.redacted_by,
           p.event_nid, p.event_id, p.pdu, o.user_nid, o.device_id, o.txn_id,
           e.facts, e.thread, e.mentions
    FROM events e
    LEFT JOIN events p ON p.event_nid = e.replaces
    LEFT JOIN LATERAL (SELECT user_nid, device_id, txn_id FROM once
                       WHERE position = e.event_nid AND position > 0 LIMIT 1) o ON true
    WHERE e.event_nid = ANY(%(nids)s::bigint[])
"""


class Place(NamedTuple):
    """Where an event stands."""

    nid: int
    room_nid: int
    flags: int


class EventCache:
    """Loads events by number and keeps them in a cache with a bound in bytes. The room projection tells it of redactions."""

    def __init__(self, db: Database, interning: Interning, memory: MemoryBudget) -> None:
        self._db = db
        self._interning = interning
        self._events: Cache[int, PersistedEvent] = memory.cache("events", SHARE)
        # Whatever anyone still holds (the recent log above all) is found again, so an event is one object per process
        # and becomes redacted everywhere at once.
        self._held: WeakValueDictionary[int, PersistedEvent] = WeakValueDictionary()
        # Of these, by ID, those that keep their numbers: an outlier may become a whole event, at another number.
        self._by_id: WeakValueDictionary[EventId, PersistedEvent] = WeakValueDictionary()
        self._outliers: WeakValueDictionary[EventId, PersistedEvent] = WeakValueDictionary()
        self._replacing: dict[int, WeakSet[PersistedEvent]] = {}
        """Number of a state event -> those of them that have replaced it."""
        self.sticky_until: dict[int, int] = {}
        """event_nid -> Unix ms until which it is sticky, of those that are. Kept by `StickyEvents`."""

    def get(self, nid: int) -> PersistedEvent | None:
        """From memory alone."""
        persisted = self._events.get(nid)
        if persisted is not None:
            return persisted
        return self._held.get(nid)

    def in_memory(self, nids: Collection[int]) -> dict[int, PersistedEvent]:
        """Those that are in memory."""
        found = self._events.get_many(nids)
        if len(found) < len(nids):
            held = self._held
            found |= {nid: persisted for nid in nids if nid not in found and (persisted := held.get(nid))}
        return found

    def add(self, persisted: PersistedEvent) -> None:
        """An event that was just written or read; the least recently used ones make room."""
        if persisted.nid in self._events:
            return
        self._held[persisted.nid] = persisted
        by_id = self._outliers if persisted.flags & OUTLIER else self._by_id
        by_id[persisted.event.event_id] = persisted
        if persisted.replaced is not None:
            self._note_replacing(persisted, persisted.replaced.ref.nid)
        self._events.put(persisted.nid, persisted, persisted.size)

    def redacted(self, target: PersistedEvent) -> None:
        """An event was redacted: so is what later state events, those in memory, tell of it."""
        if not target.event.is_state:
            return
        event_id = target.event.event_id
        for persisted in (self._by_id.get(event_id), self._outliers.get(event_id)):
            # As it was before it became a whole event: states name it by the old number.
            if persisted is not None and persisted.redaction is None and target.redaction is not None:
                persisted.redact(target.redaction)
        for persisted in self._replacing.get(target.nid, ()):
            persisted.redact_replaced(target)

    def _note_replacing(self, persisted: PersistedEvent, before: int) -> None:
        replacing = self._replacing.get(before)
        if replacing is None:
            if len(self._replacing) > 2 * len(self._held) + MAX_EMPTY:
                self._replacing = {nid: some for nid, some in self._replacing.items() if some}
            replacing = self._replacing[before] = WeakSet()
        replacing.add(persisted)

    async def load(self, nids: Collection[int]) -> dict[int, PersistedEvent]:
        """Events by number; those that exist. One query for all that are not in memory (per 500; others have a turn between)."""
        return await merged(nids, AT_ONCE, self._load)

    async def _load(self, nids: Collection[int]) -> dict[int, PersistedEvent]:
        found, missing = self._split(nids)
        for some in pieces(missing, BUILT_AT_ONCE):
            if len(missing) > BUILT_AT_ONCE:
                await next_turn()
            async with self._db.read() as tx:
                found.update(await self._read(tx, some))
        return found

    async def load_in(self, tx: Tx, nids: Collection[int]) -> dict[int, PersistedEvent]:
        """The same on a connection at hand."""
        found, missing = self._split(nids)
        if missing:
            found.update(await self._read(tx, missing))
        return found

    async def one(self, nid: int) -> PersistedEvent | None:
        return (await self.load([nid])).get(nid)

    def whole(self, event_id: EventId) -> PersistedEvent | None:
        """An event that is no outlier, from memory alone."""
        return self._by_id.get(event_id)

    async def by_id(self, event_id: EventId) -> PersistedEvent | None:
        """None for an event this server does not have. No query for one that is in memory."""
        there = self._by_id.get(event_id)
        if there is not None:
            return self.get(there.nid) or there
        found = await self.numbers([event_id])
        return await self.one(found[event_id]) if event_id in found else None

    async def numbers(self, event_ids: Collection[EventId]) -> dict[EventId, int]:
        """Numbers of the events that are here. What is no event id (the content of events names anything) is none's. One query
        for what is not in memory (per 5 000; others have a turn between).
        """
        return await merged(event_ids, AT_ONCE, self._numbers)

    async def _numbers(self, event_ids: Collection[EventId]) -> dict[EventId, int]:
        by_id = self._by_id
        found = {event_id: there.nid for event_id in event_ids if (there := by_id.get(event_id)) is not None}
        ids = [event_id for event_id in event_ids if event_id not in found and is_event_id(event_id)]
        if not ids:
            return found
        async with self._db.read() as tx:
            rows = await tx.all(
                """
                SELECT event_id, event_nid FROM events
                WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL
                """,
                ids=ids,
            )
        return {**found, **dict(rows)}

    @staticmethod
    def find_numbers(batch: Pipeline, event_ids: Collection[EventId]) -> Later[list[tuple[EventId, int]]]:
        """The same beside other statements: (event_id, event_nid)."""
        return batch.all(
            """
            SELECT event_id, event_nid FROM events
            WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL
            """,
            ids=[event_id for event_id in event_ids if is_event_id(event_id)],
        )

    async def ids(self, nids: Collection[int]) -> dict[int, EventId]:
        """IDs of events by number; those that exist. One query for what is not in memory (per 5 000; others have a turn
        between).
        """
        return await merged(nids, AT_ONCE, self._ids)

    async def _ids(self, nids: Collection[int]) -> dict[int, EventId]:
        known = self.in_memory(nids)
        found = {nid: persisted.event.event_id for nid, persisted in known.items()}
        if missing := [nid for nid in nids if nid not in found]:
            async with self._db.read() as tx:
                found.update(
                    await tx.all(
                        "SELECT event_nid, event_id FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
                        nids=missing,
                    )
                )
        return found

    async def state_numbers(
        self, room_nid: int, event_ids: Collection[EventId]
    ) -> dict[EventId, tuple[int, int]]:
        """(key_nid, event_nid) of state events of a room; those that are here and were not rejected. One query (per 5 000)."""
        found: dict[EventId, tuple[int, int]] = {}
        for ids in pieces(filter(is_event_id, event_ids), AT_ONCE):
            if len(event_ids) > AT_ONCE:
                await next_turn()
            async with self._db.read() as tx:
                rows = await tx.all(
                    """
                    SELECT event_id, key_nid, event_nid FROM events
                    WHERE event_id = ANY(%(ids)s::text[]) AND room_nid = %(room)s AND key_nid IS NOT NULL
                          AND moved_to IS NULL AND flags & 1 = 0
                    """,
                    ids=ids,
                    room=room_nid,
                )
            found.update((event_id, (key, nid)) for event_id, key, nid in rows)
        return found

    async def places(self, event_ids: Collection[EventId]) -> dict[EventId, Place]:
        """Where the events stand that are here. One query (per 5 000)."""
        found: dict[EventId, Place] = {}
        for ids in pieces(filter(is_event_id, event_ids), AT_ONCE):
            if len(event_ids) > AT_ONCE:
                await next_turn()
            async with self._db.read() as tx:
                rows = await tx.all(
                    """
                    SELECT event_id, event_nid, room_nid, flags FROM events
                    WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL
                    """,
                    ids=ids,
                )
            found.update((row[0], Place(*row[1:])) for row in rows)
        return found

    def _split(self, nids: Collection[int]) -> tuple[dict[int, PersistedEvent], list[int]]:
        found: dict[int, PersistedEvent] = {}
        missing: list[int] = []
        recent = self._events.get
        for nid in nids:
            persisted = recent(nid)
            if persisted is None and (persisted := self._held.get(nid)) is None:
                missing.append(nid)
                continue
            found[nid] = persisted
        return found, missing

    async def _read(self, tx: Tx, nids: list[int]) -> dict[int, PersistedEvent]:
        found: dict[int, PersistedEvent] = {}
        for some in pieces(nids, BUILT_AT_ONCE):
            rows = await tx.all(SELECT, nids=some)
            for persisted in await self._build(tx, rows):
                found[persisted.nid] = persisted
        return found

    async def _build(self, tx: Tx, rows: list[tuple[Any, ...]]) -> list[PersistedEvent]:
        """Events of rows, redactions attached, added to the cache."""
        names = await self._interning.rooms_in(tx, {row[1] for row in rows})
        redactions: dict[int, PersistedEvent] = {}
        redacting = {row[7] for row in rows if row[7] is not None}
        if redacting:
            redactions = await self.load_in(tx, redacting)
        pdus = await self._pdus(tx, {row[0]: (row[6], names[row[1]].room_id) for row in rows}, rows)
        built: list[PersistedEvent] = []
        for row in rows:
            persisted = self.get(row[0])
            if persisted is None:
                persisted = _persisted(row, pdus[row[0]], names[row[1]], redactions)
                if persisted.nid in self.sticky_until and persisted.redaction is None:
                    persisted.sticky_until = self.sticky_until[persisted.nid]
            self.add(persisted)
            built.append(persisted)
        return built

    async def _pdus(
        self, tx: Tx, persisted: Mapping[int, tuple[bytes, RoomId]], rows: list[tuple[Any, ...]]
    ) -> dict[int, bytes]:
        """The JSON of stored events; the ids they cite come from the same rows, from memory, or with one query."""
        opened = {nid: Opened(data) for nid, (data, _) in persisted.items() if data[:1] == MARK}
        wanted = {nid for each in opened.values() for nid in each.cited}
        ids: dict[int, EventId] = {row[0]: row[2] for row in rows} if wanted else {}
        for nid in wanted.difference(ids):
            held = self._held.get(nid)
            if held is not None:
                ids[nid] = held.event.event_id
        missing = list(wanted.difference(ids))
        if missing:
            ids.update(
                await tx.all(
                    "SELECT event_nid, event_id FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
                    nids=missing,
                )
            )
        return {
            nid: opened[nid].pdu(room_id, ids) if nid in opened else data
            for nid, (data, room_id) in persisted.items()
        }

    def clear(self) -> None:
        """Redactions may have been missed: read everything anew."""
        self._events.clear()
        for each in (self._held, self._by_id, self._outliers, self._replacing):
            each.clear()


def _persisted(
    row: tuple[Any, ...], pdu: bytes, name: RoomIdentity, redactions: dict[int, PersistedEvent]
) -> PersistedEvent:
    (
        nid,
        room_nid,
        event_id,
        sender,
        state,
        flags,
        _,
        redacted_by,
        before_nid,
        before_id,
        before_pdu,
        user,
        device,
        txn,
        bits,
        thread,
        mentions,
    ) = row
    event = event_from_storage(pdu, event_id, name.room_id, name.version)
    replaced = None
    if before_id is not None:
        before = event_from_storage(unpack(before_pdu, name.room_id), before_id, name.room_id, name.version)
        replaced = Replaced(EventRef(before_id, before_nid, 0), before_id, before.sender, before.content_json)
    return PersistedEvent(
        event,
        EventRef(event_id, nid, event.depth),
        room_nid=room_nid,
        sender_nid=sender,
        state_before=StateRef(0, nid=state),
        flags=flags,
        replaced=replaced,
        redaction=redactions.get(redacted_by) if redacted_by else None,
        sent_by=SentBy(user, device, txn) if user is not None else None,
        facts=Facts(bits, thread, tuple(mentions or ())) if thread or mentions else plain(bits),
    )
