"""What rooms are sorted and filtered by: their newest event, and a few events of their state.

spec: MSC4186, "Activity ordering", "SlidingRoomFilter", `bump_stamp`
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from homeserver.events.event import StateKey
from homeserver.graph.entry import ADOPTS, EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Tail
from homeserver.matrix.folding import MAX_FOLDED, fold
from homeserver.storage.database import Database
from homeserver.sync.sliding import store

CREATE: StateKey = ("m.room.create", "")
ENCRYPTION: StateKey = ("m.room.encryption", "")
NAME: StateKey = ("m.room.name", "")
KEYS: Final = (CREATE, ENCRYPTION, NAME)
MAX_ROOMS: Final = 100_000
"""Of which facts are remembered; some 300 bytes each."""
BUMPS: Final = frozenset(
    (
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "org.matrix.msc3381.poll.start",
        "m.beacon_info",
        "org.matrix.msc3672.beacon_info",
    )
)
"""Types of events that are what one takes for activity."""
LOOKED_THROUGH: Final = 20
"""Events that are no state among which the newest of these types is looked for; else it is the room's first event."""


class Facts:
    """What is known of one room."""

    __slots__ = ("bump", "folded", "newest", "state", "type")

    def __init__(self, newest: Position, state: dict[StateKey, int]) -> None:
        self.newest = newest
        """Position of the newest event."""
        self.state = state
        """Of `KEYS`, the events of the current state."""
        self.bump: Position = 0
        """`bump_stamp`; 0: not looked for yet."""
        self.type: str | None = None
        """Of the room; only after `RoomFacts.describe`."""
        self.folded: tuple[int, str] | None = None
        """Event and name, folded for comparison; only after `RoomFacts.describe`."""

    @property
    def encrypted(self) -> bool:
        """Whether the room has an event of encryption."""
        return ENCRYPTION in self.state


class RoomFacts:
    """A projection: facts of rooms that were asked for, moved on by the log; a bounded cache."""

    def __init__(self, db: Database, tail: Tail, events: EventCache, interning: Interning) -> None:
        self._db = db
        self._tail = tail
        self._events = events
        self._interning = interning
        self._rooms: OrderedDict[int, Facts] = OrderedDict()

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._applied}

    def reset(self) -> None:
        self._rooms.clear()

    def _applied(self, position: Position, entry: EventEntry) -> None:
        if entry.place == ADOPTS:
            self._rooms.pop(entry.persisted.room_nid, None)
            return
        facts = self._rooms.get(entry.persisted.room_nid)
        if facts is not None:
            _move(facts, position, entry)

    @property
    def position(self) -> Position:
        """What is in memory is as of here."""
        return self._tail.position

    def known(self, room_nids: Iterable[int]) -> dict[int, Facts]:
        """Those in memory, as of `tail.position`."""
        rooms = self._rooms
        return {nid: facts for nid in room_nids if (facts := rooms.get(nid)) is not None}

    async def load(self, room_nids: Collection[int]) -> None:
        """Read what is not in memory. At most three queries."""
        missing = [nid for nid in room_nids if nid not in self._rooms]
        while missing:
            numbers = await self._interning.find_key_nids(KEYS)
            keys = {number: key for key, number in numbers.items()}
            async with self._db.snapshot() as tx:
                at = await tx.value("SELECT position FROM log_head")
                newest = await store.find_newest_events(tx, missing)
                state = await store.find_state_events(tx, missing, list(keys))
            if at < self._tail.floor:
                continue
            found = {nid: Facts(position, {}) for nid, position in newest}
            for nid, key, event in state:
                found[nid].state[keys[key]] = event
            later = [
                written
                for written in (self._tail.since(at) if at < self._tail.position else ())
                if isinstance(written.entry, EventEntry) and written.entry.persisted.room_nid in found
            ]
            if any(written.entry.place == ADOPTS for written in later):
                continue
            for written in later:
                _move(found[written.entry.persisted.room_nid], written.position, written.entry)
            self._rooms.update(found)
            while len(self._rooms) > MAX_ROOMS:
                self._rooms.popitem(last=False)
            return

    async def describe(self, rooms: Mapping[int, Facts], *, names: bool) -> None:
        """Find out types of rooms, with `names` their folded names."""
        wanted: dict[int, Facts] = {}
        for facts in rooms.values():
            if facts.type is None and CREATE in facts.state:
                wanted[facts.state[CREATE]] = facts
            name = facts.state.get(NAME, 0)
            if names and name and (facts.folded is None or facts.folded[0] != name):
                wanted[name] = facts
        if not wanted:
            return
        for nid, persisted in (await self._events.load(wanted)).items():
            content = persisted.event.content
            if persisted.event.key == CREATE:
                kind = content.get("type")
                wanted[nid].type = kind if isinstance(kind, str) else ""
            else:
                text = content.get("name")
                wanted[nid].folded = (nid, fold(text[:MAX_FOLDED]) if isinstance(text, str) else "")

    async def bumps(self, rooms: Mapping[int, Iterable[PersistedEvent]]) -> dict[int, Position]:
        """room_nid -> `bump_stamp`. `rooms`: with their newest events as far as they are known, newest first.

        At most two queries, none for rooms of which it is known.
        """
        found: dict[int, Position] = {}
        missing: list[int] = []
        for nid, events in rooms.items():
            facts = self._rooms.get(nid)
            if facts is None:
                continue
            if not facts.bump:
                facts.bump = next((each.nid for each in events if each.event.type in BUMPS), 0)
            if facts.bump:
                found[nid] = facts.bump
            else:
                missing.append(nid)
        if missing:
            found |= await self._find_bumps(missing)
        return found

    async def _find_bumps(self, room_nids: list[int]) -> dict[int, Position]:
        async with self._db.read() as tx:
            rows = await store.find_newest_messages(tx, room_nids, LOOKED_THROUGH)
            loaded = await self._events.load_in(tx, [nid for _, nid in rows])
        found: dict[int, Position] = {}
        for room, nid in rows:
            if room not in found and nid in loaded and loaded[nid].event.type in BUMPS:
                found[room] = nid
        for room in room_nids:
            facts = self._rooms.get(room)
            first = facts.state.get(CREATE, 0) if facts is not None else 0
            found.setdefault(room, first)
            if facts is not None:
                facts.bump = found[room] = max(found[room], facts.bump)
        return found


def _move(facts: Facts, position: Position, entry: EventEntry) -> None:
    """An event is committed."""
    if not entry.persisted.hidden:
        facts.newest = max(facts.newest, position)
        if facts.bump and entry.persisted.event.type in BUMPS:
            facts.bump = max(facts.bump, position)
    for change in entry.changes:
        if change.key in KEYS:
            if change.ref is None:
                facts.state.pop(change.key, None)
            else:
                facts.state[change.key] = change.ref.nid
