"""Sticky events in memory: which there are in each room, from where on clients are told of them, and until when.

Whoever is in a room is told of them, however many events have come since; what soft failed is looked at again when the state of
the room changes. spec: MSC4354
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from typing_extensions import override

from homeserver.events.push_facts import STICKY
from homeserver.events.sticky import end_of
from homeserver.graph.entry import EventEntry, RedactedEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import REJECTED, SOFT_FAILED
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.write import sticky_store as store
from homeserver.graph.write.receive_rules import keys_of, stands_on
from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

MAX_OF_SENDER: Final = 100
"""Of one sender in a room that clients are told of: the newest. Who sends more is not heard in full."""
MAX_OF_ROOM: Final = 1_000
MAX_BYTES_OF_ROOM: Final = 2 << 20
MAX_LOADED: Final = 20_000
"""In all rooms, after a start."""
LOOK_EVERY: Final = 60.0
"""Seconds between looks for what is over."""


class StickyAccepted(Entry, frozen=True):
    """A sticky event that had soft failed stands after all: clients are told of it from here on."""

    event_nid: int
    room_nid: int


class StickyAcceptedSink(StructSink[StickyAccepted]):
    """Into `sticky_events` and the event's flags."""

    kind = "sticky_accepted"
    entry_type = StickyAccepted

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[StickyAccepted]]) -> None:
        store.accept(batch, [(entry.event_nid, at) for at, entry in written], SOFT_FAILED)


class Sticky(NamedTuple):
    """One that is sticky."""

    event_nid: int
    sender_nid: int
    position: Position
    """Clients whose token is older are to be told."""
    ends_ms: int
    size: int
    """Bytes, roughly."""


def write_sticky(batch: Pipeline, written: Iterable[Written[EventEntry]], now_ms: Callable[[], int]) -> None:
    """Keep what of a batch is sticky; nothing where nothing is."""
    rows = [
        store.StickyRow(
            position,
            entry.persisted.room_nid,
            position,
            end_of(entry.persisted.event, now_ms()),
            bool(entry.persisted.flags & SOFT_FAILED),
        )
        for position, entry in written
        if entry.persisted.facts.bits & STICKY and not entry.persisted.flags & REJECTED
    ]
    if rows:
        store.insert(batch, rows)


class StickyEvents:
    """A projection of the log: what is sticky in each room. Read anew when it was dropped."""

    def __init__(self, db: Database, events: EventCache, rooms: Rooms, log: LogWriter, clock: Clock) -> None:
        self._db = db
        self._events = events
        self._rooms = rooms
        self._log = log
        self._clock = clock
        self._told: dict[int, dict[int, Sticky]] = {}
        """room_nid -> event_nid -> what clients are told."""
        self._failed: dict[int, dict[int, Sticky]] = {}
        """Likewise what soft failed."""
        self._newest: dict[int, Position] = {}
        """room_nid -> the newest position of what clients are told, or were."""
        self._loaded = False
        self._resets = 0
        self._loading: asyncio.Lock = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._again: set[int] = set()
        """Rooms whose state has changed, in which something had soft failed."""
        self.wake = asyncio.Event()
        """Set when there are such."""

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def nothing(self) -> bool:
        """Whether it is known that nothing is sticky anywhere."""
        return self._loaded and not self._told

    def newest(self, room_nid: int) -> Position:
        """Where clients were told of something sticky in a room last; 0: there is nothing. After `load`."""
        return self._newest.get(room_nid, 0)

    @property
    def rooms(self) -> list[int]:
        """Those in which something is sticky; after `load`."""
        return list(self._told)

    async def load(self) -> None:
        """Read what is sticky, where that is not in memory. One query after a start, none later."""
        if self._loaded:
            return
        async with self._loading:
            while not self._loaded:
                resets, now_ms = self._resets, self._clock.now_ms()
                async with self._db.read() as tx:
                    found = await store.find(tx, now_ms, MAX_LOADED)
                if resets != self._resets:
                    continue
                for row in reversed(found):
                    self._know(row)
                self._loaded = True

    def _know(self, row: store.Found) -> None:
        """What was read, unless the log has brought it meanwhile."""
        self._mark(row.event_nid, row.ends_ms)
        if row.event_nid in self._told.get(row.room_nid, ()):
            return
        of_room = (self._failed if row.soft_failed else self._told).setdefault(row.room_nid, {})
        if not row.soft_failed:
            self._newest[row.room_nid] = max(row.position, self._newest.get(row.room_nid, 0))
        sticky = Sticky(row.event_nid, row.sender_nid, row.position, row.ends_ms, row.size)
        of_room.setdefault(row.event_nid, sticky)
        if len(of_room) > MAX_OF_ROOM:
            del of_room[next(iter(of_room))]

    def of(self, room_nid: int, after: Position, upto: Position) -> list[Sticky]:
        """What clients are told of a room that came in (after, upto] and is sticky now, the oldest first; bounded."""
        now_ms = self._clock.now_ms()
        found = [
            each
            for each in self._told.get(room_nid, {}).values()
            if after < each.position <= upto and each.ends_ms > now_ms
        ]
        return sorted(found, key=lambda each: each.position)

    # --- the projection ----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._applied, RedactedEntry: self._redacted, StickyAccepted: self._accepted}

    def reset(self) -> None:
        self._resets += 1
        self._loaded = False
        self._told.clear()
        self._failed.clear()
        self._newest.clear()

    def _applied(self, position: Position, entry: EventEntry) -> None:
        persisted = entry.persisted
        if persisted.facts.bits & STICKY and not persisted.flags & REJECTED:
            self._add(position, persisted)
        if entry.changes and persisted.room_nid in self._failed:
            self._again.add(persisted.room_nid)
            self.wake.set()
        if entry.redacts is not None and (told := self._told.get(persisted.room_nid)) is not None:
            told.pop(entry.redacts.nid, None)

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        for target in entry.targets:
            self._told.get(entry.room_nid, {}).pop(target.nid, None)

    def _add(self, position: Position, persisted: PersistedEvent) -> None:
        ends_ms = end_of(persisted.event, self._clock.now_ms())
        if ends_ms <= self._clock.now_ms():
            return
        persisted.sticky_until = ends_ms
        self._events.sticky_until[persisted.nid] = ends_ms
        sticky = Sticky(persisted.nid, persisted.sender_nid, position, ends_ms, len(persisted.event.pdu))
        if persisted.flags & SOFT_FAILED:
            of_room = self._failed.setdefault(persisted.room_nid, {})
            of_room[persisted.nid] = sticky
            if len(of_room) > MAX_OF_ROOM:
                del of_room[next(iter(of_room))]
        elif not persisted.hidden:
            self._tell(persisted.room_nid, sticky)

    def _tell(self, room_nid: int, sticky: Sticky) -> None:
        """Clients are told, and what is too much for them is not told any longer."""
        of_room = self._told.setdefault(room_nid, {})
        self._newest[room_nid] = sticky.position
        of_room.setdefault(sticky.event_nid, sticky)
        own = [nid for nid, each in of_room.items() if each.sender_nid == sticky.sender_nid]
        for nid in own[: max(0, len(own) - MAX_OF_SENDER)]:
            del of_room[nid]
        size = sum(each.size for each in of_room.values())
        for nid in list(of_room):
            if len(of_room) <= MAX_OF_ROOM and (size <= MAX_BYTES_OF_ROOM or len(of_room) == 1):
                break
            size -= of_room.pop(nid).size

    def _accepted(self, position: Position, entry: StickyAccepted) -> None:
        persisted = self._events.get(entry.event_nid)
        if persisted is not None:
            persisted.flags &= ~SOFT_FAILED
        failed = self._failed.get(entry.room_nid, {}).pop(entry.event_nid, None)
        if failed is not None:
            self._tell(entry.room_nid, failed._replace(position=position))

    def _mark(self, event_nid: int, ends_ms: int) -> None:
        self._events.sticky_until[event_nid] = ends_ms
        if (persisted := self._events.get(event_nid)) is not None:
            persisted.sticky_until = ends_ms

    # --- in the background -------------------------------------------------------------------------------------------

    async def look_again(self) -> None:
        """Forget what is over; accept what had soft failed and is allowed by now."""
        await self.load()
        self._forget()
        async with self._looking:  # who asks while somebody is at it has it done when they are answered
            while self._again:
                room_nid = self._again.pop()
                try:
                    await self._accept_in(room_nid)
                except BaseException:
                    self._again.add(room_nid)
                    raise

    async def _accept_in(self, room_nid: int) -> None:
        for sticky in list(self._failed.get(room_nid, {}).values()):
            if sticky.ends_ms > self._clock.now_ms() and await self._may_stand(room_nid, sticky.event_nid):
                await self._log.append(StickyAccepted(sticky.event_nid, room_nid))

    async def _may_stand(self, room_nid: int, event_nid: int) -> bool:
        room = await self._rooms.get(room_nid)
        persisted = await self._events.one(event_nid)
        if persisted is None or not persisted.flags & SOFT_FAILED:
            return False
        nids = [room.state[key] for key in keys_of(persisted.event) if key in room.state]
        return stands_on(persisted.event, (await self._events.load(nids)).values())

    def _forget(self) -> None:
        now_ms = self._clock.now_ms()
        for kept in (self._told, self._failed):
            for room_nid, of_room in list(kept.items()):
                for sticky in [each for each in of_room.values() if each.ends_ms <= now_ms]:
                    del of_room[sticky.event_nid]
                if not of_room:
                    del kept[room_nid]
                    if kept is self._told:
                        self._newest.pop(room_nid, None)
        for nid in [nid for nid, ends_ms in self._events.sticky_until.items() if ends_ms <= now_ms]:
            del self._events.sticky_until[nid]
            if (persisted := self._events.get(nid)) is not None:
                persisted.sticky_until = 0

    async def delete_ended(self) -> None:
        """From the database."""
        async with self._db.transaction() as tx:
            await store.delete_ended(tx, self._clock.now_ms())
