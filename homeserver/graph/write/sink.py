"""The sink of events: writes a batch with its state, heads, current state and memberships, one statement per table.

Before that, under the lock on the log's head, it compares the room each event was built on with the room as it is. A
message that others were faster than is signed again as what follows theirs; what they have done to the state, or what it
does itself, asks for its plan: then it has to be built again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from homeserver.graph.entry import FOLLOWS, EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import EventRef, StateRef
from homeserver.graph.relations import delete_relations, insert_relations
from homeserver.graph.rooms.room import Room
from homeserver.graph.write import gap_store, packing, store
from homeserver.graph.write.cover_places import CoverPlaces
from homeserver.graph.write.ended_stays import defer_redacting
from homeserver.graph.write.packing import Unpacker
from homeserver.graph.write.sticky import write_sticky
from homeserver.log.entries import Append, Conflict, Position, Refused, Written
from homeserver.matrix.errors import MatrixError
from homeserver.storage.tx import Pipeline, Tx

Relink = Callable[[EventEntry, tuple[EventRef, ...]], None]
"""Makes an event, not yet written, follow other events than it was built on."""

_Point = EventRef | int
"""An event: its number, or the reference itself while it has none."""


class _HeadNow(NamedTuple):
    """A room as it is under the lock, with what the batch has written so far."""

    points: frozenset[_Point]
    """Its forward extremities."""
    state: _Point
    """Its state: 0, the number, or the state event it is after."""
    refs: tuple[EventRef, ...] | None
    """The extremities again; None: not in memory."""


def write_effects(batch: Pipeline, written: Sequence[Written[EventEntry]], *, keep_originals: bool) -> None:
    """What events do to others, wherever they stand in the room's history: relations, redactions, and what waited for them."""
    insert_relations(batch, written)
    redactions = [item for item in written if item.entry.redacts is not None]
    if redactions:
        store.apply_redactions(batch, redactions, keep=keep_originals)
        delete_relations(batch, [e.redacts.nid for _, e in redactions if e.redacts is not None])
    store.write_waiting(batch, written, keep=keep_originals)


class EventSink:
    """The sink of events. While a batch is written it owns the chain cover places of that batch."""

    kind = "event"
    entry_type = EventEntry

    def __init__(
        self,
        events: EventCache,
        rooms: Callable[[int], Room | None] = lambda _: None,
        relink: Relink | None = None,
        *,
        keep_originals: bool,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """`rooms`: from memory, by number. `relink`: see `Relink`. `keep_originals`: what is redacted is kept apart for a
        while (`originals`). `now_ms`: Unix ms, which sticky events that claim to be of the future begin at.
        """
        self._events = events
        self._rooms = rooms
        self._relink = relink
        self._keep_originals = keep_originals
        self._now_ms = now_ms
        self._unpacker = Unpacker()
        self._places = CoverPlaces()

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what was built on extremities that are no longer the room's."""
        events = [entry for append in appends for entry in append.entries if isinstance(entry, EventEntry)]
        rooms = sorted({e.persisted.room_nid for e in events if e.base or e.place != FOLLOWS})
        found = store.find_heads(batch, rooms) if rooms else None
        known = sorted({state.nid for entry in events for state in entry.new_states if state.known})
        held = store.hold_states(batch, known) if known else None
        learn = self._places.ask(batch, events)

        def moved_on(refused: Refused) -> Refused:
            learn()
            heads = (
                {room: self._head(room, nids, state) for room, nids, state in found.result} if found else {}
            )
            gone = set(known).difference(nid for (nid,) in held.result) if held else set()
            conflicts: Refused = {}
            for number, append in enumerate(appends):
                moved = None if number in refused else self._advance(heads, append, gone)
                if moved is not None:
                    heads.update(moved)
                    continue
                conflicts.setdefault(number, refused.get(number) or Conflict("the room has moved on"))
                self.undo([append])
            return conflicts

        return moved_on

    def _head(self, room_nid: int, nids: Sequence[int], state: int) -> _HeadNow:
        room = self._rooms(room_nid)
        points = frozenset(nids)
        known = room is not None and {ref.nid for ref in room.extremities} == points
        return _HeadNow(points, state, room.extremities if room is not None and known else None)

    def _advance(
        self, heads: Mapping[int, _HeadNow], append: Append, gone: Collection[int]
    ) -> dict[int, _HeadNow] | None:
        """The heads after an append; None if it does not fit on them, or stands on a state that is gone."""
        moved: dict[int, _HeadNow] = {}
        for entry in append.entries:
            if not isinstance(entry, EventEntry):
                continue
            if any(state.known and state.nid in gone for state in entry.new_states):
                return None
            room = entry.persisted.room_nid
            head = moved.get(room) or heads.get(room) or _NEW
            if not _fits(head, entry):
                if self._relink is None or head.refs is None or not append.may_follow:
                    return None
                if not _only_follows(head, entry):
                    return None
                try:
                    self._relink(entry, head.refs)
                except MatrixError:  # a byte too long, perhaps: its plan will say it
                    return None
                append.changed = True
            moved[room] = _HeadNow(_points(entry.extremities), _point(entry.room_state), entry.extremities)
        return moved

    def write(self, batch: Pipeline, written: Sequence[Written[EventEntry]]) -> None:
        for position, entry in written:
            entry.persisted.ref.nid = position
        moved = [(entry.was.nid, position) for position, entry in written if entry.was is not None]
        if moved:
            gap_store.move(batch, [nid for nid, _ in moved], [position for _, position in moved])
        store.insert_events(batch, written, self._places.of(written))
        store.write_rooms(batch, written)
        store.write_state(batch, written)
        write_effects(batch, written, keep_originals=self._keep_originals)
        store.write_gaps(batch, written)
        write_sticky(batch, written, self._now_ms)
        defer_redacting(batch, written)

    def undo(self, appends: Sequence[Append]) -> None:
        """These events have no place in the log: whatever was built on them cannot be written either."""
        for append in appends:
            for entry in append.entries:
                if isinstance(entry, EventEntry):
                    entry.persisted.ref.nid = 0

    def encode(self, entry: EventEntry) -> bytes:
        return packing.encode_feed(entry)

    def pack(self, entry: EventEntry, *, to_write: bool) -> bytes | None:
        return packing.pack(entry, to_write=to_write)

    def unpack(self, payload: bytes, position: Position) -> EventEntry:
        entry = self._unpacker.entry(payload, position)
        known = self._events.get(position) if position else None  # an event is one object in a process
        return msgspec.structs.replace(entry, persisted=known) if known is not None else entry

    def adopt(self, entry: EventEntry, position: Position, written: EventEntry | None) -> None:
        persisted = entry.persisted
        persisted.ref.nid = position
        if written is None:
            return
        if written.persisted is not persisted:
            persisted.become(written.persisted.event)
        own = persisted.ref
        extremities = tuple([own if ref.nid == position else ref for ref in written.extremities])
        msgspec.structs.force_setattr(entry, "extremities", extremities)

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[EventEntry]]:
        feeds = [(position, packing.decode_feed(payload)) for position, payload in rows]
        needed = [position for position, _ in feeds] + [feed.redacts for _, feed in feeds if feed.redacts]
        persisted = await self._events.load_in(tx, needed)
        return [
            Written(position, packing.entry_of(feed, persisted[position], persisted.get(feed.redacts)))
            for position, feed in feeds
            if position in persisted
        ]


def _points(refs: Iterable[EventRef]) -> frozenset[_Point]:
    # References of this batch have no number yet: they are the same object or they do not fit.
    return frozenset([ref.nid or ref for ref in refs])


def _fits(head: _HeadNow, entry: EventEntry) -> bool:
    """Whether an event was built on the room as it is. What it points at may have another id by now."""
    if head.points != _points(entry.base):
        return False
    if not entry.base:
        return True
    prev = entry.persisted.event.prev_event_ids
    return all(ref.event_id in prev for ref in entry.prev)


def _only_follows(head: _HeadNow, entry: EventEntry) -> bool:
    """Whether an event that was planned here is as good after what others have said meanwhile: nothing about it depends on
    the room but for its state, and that is what it was built on.
    """
    persisted = entry.persisted
    return (
        head.state == _point(entry.room_state) == _point(persisted.state_before)
        and entry.key_nid is None
        and bool(entry.base)
        and entry.place == FOLLOWS
        and not (entry.changes or entry.new_states or entry.redacts or entry.waits_for or persisted.redaction)
        and not persisted.flags
        and persisted.event.room_version.hash_ids
        and persisted.event.type != "m.room.redaction"
    )


def _point(state: StateRef) -> _Point:
    return state.nid or state.event or 0


_NEW = _HeadNow(frozenset(), 0, ())
