"""The sink of older events: writes what was found in gaps of a room's history, under the numbers that tell where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from homeserver.graph.entry import BackfillEntry, EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import EMPTY_STATE
from homeserver.graph.write import gap_store, store
from homeserver.graph.write.cover_places import CoverPlaces
from homeserver.graph.write.sink import write_effects
from homeserver.log.entries import Append, Conflict, Position, Refused, Written
from homeserver.storage.tx import Pipeline, Tx


class _Feed(msgspec.Struct, array_like=True):
    room_nid: int
    rows: list[tuple[int, int]]
    """event_nid, and that of what it redacts, or 0."""


class BackfillSink:
    """The sink of `BackfillEntry`. While a batch is written it owns the places of that batch."""

    kind = "backfill"
    entry_type = BackfillEntry

    def __init__(self, events: EventCache, *, keep_originals: bool) -> None:
        self._events = events
        self._keep_originals = keep_originals
        self._places = CoverPlaces()

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what stands on a state that is gone."""
        numbered = [(number, entry) for number, append in enumerate(appends) for entry in _rows(append)]
        learn = self._places.ask(batch, [entry for _, entry in numbered])
        states = {new.nid for _, entry in numbered for new in entry.new_states if new.known}
        held = store.hold_states(batch, sorted(states)) if states else None

        def refusals(refused: Refused) -> Refused:
            learn()
            gone = states.difference(nid for (nid,) in held.result) if held else set()
            return {
                number: Conflict("a state is gone")
                for number, entry in numbered
                if number not in refused and any(new.nid in gone for new in entry.new_states)
            }

        return refusals

    def write(self, batch: Pipeline, written: Sequence[Written[BackfillEntry]]) -> None:
        rows = [Written(nid, entry) for _, backfill in written for nid, entry in backfill.rows]
        for nid, entry in rows:
            entry.persisted.ref.nid = nid
        moved = [(entry.was.nid, nid) for nid, entry in rows if entry.was is not None]
        if moved:
            gap_store.move(batch, [old for old, _ in moved], [nid for _, nid in moved])
        store.insert_events(batch, rows, self._places.of(rows))
        store.write_state(batch, rows)
        write_effects(batch, rows, keep_originals=self._keep_originals)
        found = [entry.persisted for _, entry in rows]
        gap_store.fill(batch, [each.room_nid for each in found], [each.event.event_id for each in found])
        for _, backfill in written:
            for gap, missing in backfill.gaps:
                if missing:
                    gap_store.extend_gap(batch, backfill.room_nid, gap, missing)

    def undo(self, appends: Sequence[Append]) -> None:
        """They have no number until they are written."""
        for append in appends:
            for entry in _rows(append):
                entry.persisted.ref.nid = 0

    def encode(self, entry: BackfillEntry) -> bytes:
        rows = [(nid, row.redacts.nid if row.redacts is not None else 0) for nid, row in entry.rows]
        return msgspec.msgpack.encode(_Feed(entry.room_nid, rows))

    def pack(self, entry: BackfillEntry, *, to_write: bool) -> bytes | None:
        """It is written by its own process, and read from its table."""
        del entry, to_write
        return None  # the type says so

    def unpack(self, payload: bytes, position: Position) -> BackfillEntry:
        """Never asked for."""
        del payload, position
        raise ValueError("older events do not travel whole")

    def adopt(self, entry: BackfillEntry, position: Position, written: BackfillEntry | None) -> None:
        """Nothing is noted."""

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[BackfillEntry]]:
        feeds = [(position, _decode(payload)) for position, payload in rows]
        needed = {nid for _, feed in feeds for row in feed.rows for nid in row if nid}
        loaded = await self._events.load_in(tx, needed)
        return [
            Written(
                position,
                BackfillEntry(
                    feed.room_nid,
                    tuple(
                        (
                            nid,
                            EventEntry(loaded[nid], (), (), EMPTY_STATE, redacts=loaded.get(redacts)),
                        )
                        for nid, redacts in feed.rows
                        if nid in loaded
                    ),
                ),
            )
            for position, feed in feeds
        ]


_decode = msgspec.msgpack.Decoder(_Feed).decode


def _rows(append: Append) -> list[EventEntry]:
    return [row for entry in append.entries if isinstance(entry, BackfillEntry) for _, row in entry.rows]
