"""Bundled aggregations: what relates to an event, in short, in its `unsigned`.

spec: client-server-api/#aggregations-of-child-events (REL-02)
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.events.client_format import with_room_id
from homeserver.graph import bundle_store as store
from homeserver.graph.events import EventCache
from homeserver.graph.stored import Reader, Stored
from homeserver.graph.visibility import VisibilityFilter, stripped
from homeserver.matrix import json
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database


class Bundles:
    """One per process."""

    def __init__(self, db: Database, events: EventCache, visibility: VisibilityFilter, clock: Clock) -> None:
        self._db = db
        self._events = events
        self._visibility = visibility
        self._clock = clock

    async def of(self, reader: Reader, page: Sequence[Stored]) -> dict[int, bytes]:
        """event_nid -> the member `m.relations` of `unsigned`, with a leading comma; two queries for a page."""
        ids: dict[str, Stored] = {s.event.event_id: s for s in page if not s.event.is_state}
        if not ids:
            return {}
        async with self._db.snapshot() as tx, tx.pipeline() as batch:
            threads = store.find_threads(batch, list(ids), reader.user_nid)
            edits = store.find_edits(batch, list(ids))
            references = store.find_references(batch, list(ids))
        needed = {row.latest_nid for row in threads.result} | {nid for _, nid in edits.result}
        loaded = await self._events.load(needed)
        found: dict[str, list[bytes]] = {}
        for parent, nid in edits.result:
            edit = loaded.get(nid)
            # spec: #validity-of-replacement-events: of the same type, with new content where it can be seen (REL-05)
            if not ids[parent].event.content:
                continue  # redacted, or erased: what it became must not tell what it was
            if edit is not None and edit.event.type == ids[parent].event.type and _replaces(edit):
                found.setdefault(parent, []).append(b'"m.replace":' + self._render(reader, edit))
        erased = await self._visibility.erased() if threads.result else ()
        for row in threads.result:
            latest = loaded.get(row.latest_nid)
            if latest is not None and latest.sender_nid in erased:
                latest = stripped(latest)  # for everybody: who was there when is not looked up for a summary
            if latest is not None:
                took_part = row.participated or ids[row.root_id].sender_nid == reader.user_nid
                found.setdefault(row.root_id, []).append(
                    b'"m.thread":{"latest_event":%b,"count":%d,"current_user_participated":%b}'
                    % (self._render(reader, latest), row.count_, b"true" if took_part else b"false")
                )
        by_parent: dict[str, list[dict[str, str]]] = {}
        for parent, child in references.result:
            by_parent.setdefault(parent, []).append({"event_id": child})
        for parent, children in by_parent.items():
            chunk = json.dumps({"chunk": children[: store.MAX_REFERENCES]})
            found.setdefault(parent, []).append(b'"m.reference":' + chunk)
        return {ids[parent].nid: b',"m.relations":{%b}' % b",".join(parts) for parent, parts in found.items()}

    def _render(self, reader: Reader, stored: Stored) -> bytes:
        return with_room_id(stored.render(reader, 1, self._clock.now_ms()), stored.event.room_id)


def _replaces(edit: Stored) -> bool:
    return edit.event.type == "m.room.encrypted" or isinstance(edit.event.content.get("m.new_content"), dict)
