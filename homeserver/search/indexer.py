"""Keeps the index of words: a reader of the log, and what it has in common with going through the log again.

What an entry should say is worked out from the events as they are in the database when it is written, under a lock that all
who write entries take: so whoever comes later knows more, and whatever comes twice does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.event_source import EventSource
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.bundles import replaces
from homeserver.graph.relations import relation_of
from homeserver.log.readers.types import WHOLE, Item, Reader
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.search import store
from homeserver.search.store import Entry, Original
from homeserver.search.words import is_edit, is_searched, room_mark, text_of, vector
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

ENCRYPTION: StateKey = ("m.room.encryption", "")
REDACTION: Final = "m.room.redaction"
PAUSE: Final = 0.25
"""Seconds from the beginning of a batch to that of the next one: what comes meanwhile is written together."""
BATCH: Final = 500
DELETED_AT_ONCE: Final = 5_000
PART_BYTES: Final = 128 * 1024
"""Of the events that are cut into words in one transaction and without a break: some milliseconds, seldom some tens of them."""
PART_EVENTS: Final = 500


class Indexer:
    """Writes entries. Keeps nothing in memory."""

    def __init__(self, db: Database, events: EventCache, interning: Interning, clock: Clock) -> None:
        self._db = db
        self._events = events
        self._interning = interning
        self._clock = clock

    def reader(self) -> Reader:
        """As the log knows it. It begins at the end: what was before is the rebuild's."""
        return Reader(
            name="search",
            sources=[EventSource(self._events)],
            deliver=self.deliver,
            interest=_interest,
            batch=BATCH,
            repeatable=True,
        )

    async def deliver(self, _: str, items: Sequence[Item[PersistedEvent]]) -> None:
        """Bring the index up to these events. Raises what the database says."""
        began = self._clock.monotonic()
        events = [item.value for item in items]
        for room_nid in {each.room_nid for each in events if each.event.key == ENCRYPTION}:
            await self._forget_room(room_nid)
        for some in _in_parts(events):
            async with self._db.transaction() as tx:
                await store.lock(tx)
                await self._write_concerned(tx, some)
            await next_turn()
        if len(items) < BATCH and (left := PAUSE - (self._clock.monotonic() - began)) > 0:
            await asyncio.sleep(left)

    async def write_in(self, tx: Tx, event_nids: Collection[int]) -> list[int]:
        """Write, or take out, what the index has of some events, under `store.lock`. Returns those that have entries now."""
        loaded = await self._events.load_in(tx, event_nids)
        searched = [each for each in loaded.values() if _has_words(each)]
        encrypted = await self._encrypted(tx, {each.room_nid for each in searched})
        searched = [each for each in searched if each.room_nid not in encrypted]
        edits = await self.newest_edits(tx, searched)
        entries = []
        for persisted in searched:
            entry = entry_of(persisted, edits.get(persisted.event.event_id))
            if entry is not None:
                entries.append(entry)
        if entries:
            await store.write_entries(tx, entries)
        kept = {entry.event_nid for entry in entries}
        if gone := [nid for nid in event_nids if nid not in kept]:
            await store.delete_entries(tx, gone)
        return sorted(kept)

    async def newest_edits(self, tx: Tx, events: Iterable[PersistedEvent]) -> dict[str, PersistedEvent]:
        """Event id -> its newest valid edit. spec: client-server-api/#event-replacements (REL-04, REL-05)"""
        originals = [
            Original(each.event.event_id, each.room_nid, each.sender_nid)
            for each in events
            if each.event.type == "m.room.message"
        ]
        edited = await store.find_edited(tx, [each.event_id for each in originals]) if originals else set()
        if not edited:
            return {}
        rows = await store.find_edits(tx, [each for each in originals if each.event_id in edited])
        loaded = await self._events.load_in(tx, {nid for _, nid in rows})
        newest: dict[str, PersistedEvent] = {}
        for event_id, nid in rows:
            edit = loaded.get(nid)
            if event_id not in newest and edit is not None and edit.redaction is None and replaces(edit):
                newest[event_id] = edit
        return newest

    async def drain_late(self) -> None:
        """Write what no reader of the log was told of: older history, and events that were shown later than they came."""
        nids: Sequence[int] = [0]
        while nids:
            async with self._db.transaction() as tx:
                await store.lock(tx)
                nids = await store.take_late(tx, PART_BYTES, PART_EVENTS)
                loaded = await self._events.load_in(tx, nids)
                await self._write_concerned(tx, [each for each in loaded.values() if _concerns(each)])
            await next_turn()

    # --- inside --------------------------------------------------------------------------------------------------

    async def _write_concerned(self, tx: Tx, events: Iterable[PersistedEvent]) -> None:
        if targets := await self._found(tx, events):
            await self.write_in(tx, targets)

    async def _found(self, tx: Tx, events: Iterable[PersistedEvent]) -> set[int]:
        """Whose entries some events concern: their own, that of what they edit or redact, that of what was edited by it."""
        own: set[int] = set()
        named: set[str] = set()
        redacted: set[str] = set()
        for persisted in events:
            event = persisted.event
            if event.type == REDACTION and event.redacts is not None:
                redacted.add(event.redacts)
            elif (relation := relation_of(event)) is not None and relation.rel_type == "m.replace":
                named.add(relation.parent_id)
            elif is_searched(event):
                own.add(persisted.nid)
        if named:
            own.update(await store.find_numbers(tx, sorted(named)))
        if redacted:
            gone = await store.find_numbers(tx, sorted(redacted))
            own.update(gone, await store.find_edited_by(tx, gone))
        return own

    async def _encrypted(self, tx: Tx, room_nids: Collection[int]) -> set[int]:
        if not room_nids:
            return set()
        keys = await self._interning.find_key_nids_in(tx, [ENCRYPTION])
        return await store.find_encrypted(tx, room_nids, list(keys.values())) if keys else set()

    async def _forget_room(self, room_nid: int) -> None:
        """What was said in a room before it was encrypted is found no more."""
        async with self._db.transaction() as tx:
            if not await self._encrypted(tx, [room_nid]):
                return
        gone = DELETED_AT_ONCE
        while gone == DELETED_AT_ONCE:
            async with self._db.transaction() as tx:
                gone = await store.delete_room(tx, room_mark(room_nid), room_nid, DELETED_AT_ONCE)


def entry_of(persisted: PersistedEvent, edit: PersistedEvent | None) -> Entry | None:
    """What the index says of an event; None: nothing."""
    found = text_of(persisted.event, edit.event if edit is not None else None)
    words = vector(found.text, persisted.room_nid, persisted.nid) if found is not None else None
    if found is None or words is None:
        return None
    edit_nid = edit.nid if edit is not None else 0
    return Entry(persisted.nid, persisted.room_nid, persisted.sender_nid, edit_nid, found.kind, words)


def _has_words(persisted: PersistedEvent) -> bool:
    event = persisted.event
    return not persisted.hidden and persisted.redaction is None and is_searched(event) and not is_edit(event)


async def _interest(items: Sequence[Item[PersistedEvent]]) -> Sequence[Collection[str]]:
    return [(WHOLE,) if _concerns(item.value) else () for item in items]


def _concerns(persisted: PersistedEvent) -> bool:
    if persisted.hidden:
        return False
    event = persisted.event
    return is_searched(event) or event.type == REDACTION or event.key == ENCRYPTION


def _in_parts(events: Iterable[PersistedEvent]) -> Iterator[list[PersistedEvent]]:
    part: list[PersistedEvent] = []
    size = 0
    for persisted in events:
        size += len(persisted.event.pdu)
        if part and size > PART_BYTES:
            yield part
            part, size = [], len(persisted.event.pdu)
        part.append(persisted)
    if part:
        yield part
