"""The sink of events: writes a batch with its state, heads, current state and memberships, one statement per table.

Before that, under the lock on the log's head, it compares the room each event was built on with the room as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import EventRef, StateRef
from homeserver.graph.relations import delete_relations, insert_relations
from homeserver.graph.state.chains import Placer, Row, find_rows
from homeserver.graph.write import store
from homeserver.log.entries import Append, Conflict, Position, Refused, Written
from homeserver.storage.tx import Pipeline, Tx

_Heads = dict[int, tuple[EventRef | int, ...]]


class _Feed(msgspec.Struct, array_like=True):
    """What another process needs beside the event itself."""

    extremities: list[tuple[int, str, int]]
    state_nid: int
    height: int
    changes: list[tuple[str, str, int, int, str, int, int | None, int | None, bool]]
    redacts: int
    superseded: tuple[str, str, int, int, str, int, int | None, int | None, bool] | None = None


class EventSink:
    """The sink of events. While a batch is written it owns the chain cover places of that batch."""

    kind = "event"
    entry_type = EventEntry

    def __init__(self, events: EventCache, *, keep_originals: bool) -> None:
        """`keep_originals`: what is redacted is kept apart for a while (`originals`)."""
        self._events = events
        self._keep_originals = keep_originals
        self._placer = Placer([])
        """What is known, under the lock, of the auth events of the batch that is being written."""

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what was built on extremities that are no longer the room's."""
        events = [entry for append in appends for entry in append.entries if isinstance(entry, EventEntry)]
        rooms = sorted({entry.persisted.room_nid for entry in events if entry.base})
        found = store.find_extremities(batch, rooms) if rooms else None
        known = sorted({state.nid for entry in events for state in entry.new_states if state.known})
        held = store.hold_states(batch, known) if known else None
        auth = {ref.nid for entry in events if entry.key_nid is not None for ref in entry.auth if ref.nid}
        places = find_rows(batch, auth) if auth else None

        def moved_on(refused: Refused) -> Refused:
            self._placer = Placer(places.result if places else [])
            heads: _Heads = {room: tuple(nids) for room, nids in found.result} if found else {}
            gone = set(known).difference(nid for (nid,) in held.result) if held else set()
            conflicts: Refused = {}
            for number, append in enumerate(appends):
                moved = None if number in refused else _advance(heads, append, gone)
                if moved is not None:
                    heads.update(moved)
                    continue
                conflicts.setdefault(number, refused.get(number) or Conflict("the room has moved on"))
                self.undo([append])
            return conflicts

        return moved_on

    def write(self, batch: Pipeline, written: Sequence[Written[EventEntry]]) -> None:
        for position, entry in written:
            entry.persisted.ref.nid = position
        store.insert_events(batch, written, self._place(written))
        store.write_rooms(batch, written)
        store.write_state(batch, written)
        insert_relations(batch, written)
        redactions = [item for item in written if item.entry.redacts is not None]
        if redactions:
            store.apply_redactions(batch, redactions, keep=self._keep_originals)
            delete_relations(batch, [e.redacts.nid for _, e in redactions if e.redacts is not None])

        store.write_waiting(batch, written, keep=self._keep_originals)

    def _place(self, written: Sequence[Written[EventEntry]]) -> dict[int, Row]:
        """State events get a place in the chain cover: messages are in no auth chain."""
        placed: dict[int, Row] = {}
        for position, entry in written:
            if entry.key_nid is not None:
                row = self._placer.place(position, {ref.nid for ref in entry.auth})
                if row is not None:
                    placed[position] = row
        return placed

    def undo(self, appends: Sequence[Append]) -> None:
        """These events have no place in the log: whatever was built on them cannot be written either."""
        for append in appends:
            for entry in append.entries:
                if isinstance(entry, EventEntry):
                    entry.persisted.ref.nid = 0

    def encode(self, entry: EventEntry) -> bytes:
        return msgspec.msgpack.encode(
            _Feed(
                [(r.nid, r.event_id, r.depth) for r in entry.extremities],
                entry.room_state.nid,
                entry.room_state.height,
                [_flat(change) for change in entry.changes],
                entry.redacts.nid if entry.redacts else 0,
                _flat(entry.superseded) if entry.superseded else None,
            )
        )

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[EventEntry]]:
        feeds = [(position, msgspec.msgpack.decode(payload, type=_Feed)) for position, payload in rows]
        needed = [position for position, _ in feeds] + [feed.redacts for _, feed in feeds if feed.redacts]
        persisted = await self._events.load_in(tx, needed)
        result: list[Written[EventEntry]] = []
        for position, feed in feeds:
            if position not in persisted:
                continue
            entry = EventEntry(
                persisted=persisted[position],
                base=(),
                extremities=tuple(EventRef(i, n, d) for n, i, d in feed.extremities),  # type: ignore[arg-type]  # a NewType
                room_state=StateRef(feed.height, nid=feed.state_nid),
                changes=tuple(_unflat(change) for change in feed.changes),
                redacts=persisted.get(feed.redacts),
                superseded=_unflat(feed.superseded) if feed.superseded else None,
            )
            result.append(Written(position, entry))
        return result


def _advance(heads: _Heads, append: Append, gone: Collection[int]) -> _Heads | None:
    """The heads after an append; None if it does not fit on them, or stands on a state that is gone."""
    moved: _Heads = {}
    for entry in append.entries:
        if not isinstance(entry, EventEntry):
            continue
        if any(state.known and state.nid in gone for state in entry.new_states):
            return None
        room = entry.persisted.room_nid
        head = moved.get(room, heads.get(room, ()))
        # References of this batch have no number yet: they are the same object or they do not fit.
        if {ref.nid or ref for ref in entry.base} != set(head):
            return None
        moved[room] = tuple(ref.nid or ref for ref in entry.extremities)
    return moved


def _flat(change: StateChange) -> tuple[str, str, int, int, str, int, int | None, int | None, bool]:
    ref = change.ref
    nid, event_id, depth = (ref.nid, ref.event_id, ref.depth) if ref else (0, "", 0)
    return (
        *change.key,
        change.key_nid,
        nid,
        event_id,
        depth,
        change.user_nid,
        change.membership,
        change.local,
    )


def _unflat(flat: tuple[str, str, int, int, str, int, int | None, int | None, bool]) -> StateChange:
    kind, state_key, key_nid, nid, event_id, depth, user_nid, membership, local = flat
    ref = EventRef(event_id, nid, depth) if nid else None  # type: ignore[arg-type]  # a NewType
    return StateChange((kind, state_key), key_nid, ref, user_nid, membership, local)
