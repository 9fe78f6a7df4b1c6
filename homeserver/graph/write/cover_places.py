"""Places in the chain cover of the events of one batch, for the sinks that write events: asked for and given under the lock on the
log's head.

spec: rooms/v2/#definitions (auth difference)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from homeserver.graph.entry import BESIDE, EventEntry
from homeserver.graph.state.chains import Placer, Row, find_rows
from homeserver.graph.write import gap_store
from homeserver.graph.write.gap_store import Placed
from homeserver.log.entries import Written
from homeserver.storage.tx import Pipeline


class CoverPlaces:
    """Owns what is known of the batch that is being written."""

    def __init__(self) -> None:
        self._moved: dict[int, Placed] = {}
        """Places of outliers that become whole events with the batch."""
        self._placer = Placer([])

    def ask(self, batch: Pipeline, entries: Iterable[EventEntry]) -> Callable[[], None]:
        """Look for what the events rest on. To be called when the batch has run: what was known of the last one is forgotten."""
        auth: set[int] = set()
        moved: list[int] = []
        for entry in entries:
            if entry.key_nid is not None:
                auth.update(ref.nid for ref in entry.auth if ref.nid)
            if entry.was is not None:
                moved.append(entry.was.nid)
        places = find_rows(batch, auth.union(moved)) if auth or moved else None
        placed = gap_store.find_placed(batch, moved) if moved else None

        def learn() -> None:
            self._placer = Placer(places.result if places else [])
            self._moved = {each.event_nid: each for each in placed.result} if placed else {}

        return learn

    def of(self, written: Sequence[Written[EventEntry]]) -> dict[int, Row]:
        """By number: state events get a place, messages are in no auth chain. What rests on events that are not here has none."""
        placed: dict[int, Row] = {}
        for nid, entry in written:
            if entry.was is not None and entry.was.nid in self._moved:
                _, chain, sequence, links = self._moved[entry.was.nid]
                self._placer.move(entry.was.nid, nid)
                placed[nid] = Row(nid, chain, sequence, links)
            elif entry.key_nid is not None and entry.place != BESIDE:
                row = self._placer.place(nid, {ref.nid for ref in entry.auth})
                if row is not None:
                    placed[nid] = row
        return placed
