"""Bundled aggregations: what relates to an event, in short, in its `unsigned`.

Most events have no relations, so a page asks that first. What is told leaves out ignored users, redacted children (they
have no row), and children the reader may not see.
spec: client-server-api/#aggregations-of-child-events (REL-02 to REL-09)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from homeserver.events.client_format import room_member
from homeserver.graph import bundle_store as store
from homeserver.graph.bundle_store import Parent, ReferenceRow, ThreadRow
from homeserver.graph.events import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.related import Related
from homeserver.graph.relations import relation_of
from homeserver.graph.room import Room
from homeserver.graph.stored import Reader, Stored
from homeserver.graph.visibility import Viewer, VisibilityFilter, Visible, plain_after
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

Pages = Mapping[Room, Sequence[Stored]]


class Ignoring(Protocol):
    """Whom a user ignores."""

    @property
    def ignored(self) -> frozenset[str]:
        """User ids."""
        ...


class Ignores(Protocol):
    """Fulfilled by account data."""

    async def of(self, user_nid: int) -> Ignoring: ...


class _Look(NamedTuple):
    """Whose eyes, and on what."""

    viewer: Viewer
    ignored: list[int]
    stored: dict[str, Stored]
    """The parents by event id."""
    rooms: dict[int, Room]
    parents: list[Parent]


class Bundles:
    """One per process."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        interning: Interning,
        events: EventCache,
        visibility: VisibilityFilter,
        related: Related,
        clock: Clock,
    ) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._visibility = visibility
        self._related = related
        self._clock = clock
        self._ignores: Ignores | None = None

    def ignore_with(self, ignores: Ignores) -> None:
        """Plug in who knows whom users ignore."""
        self._ignores = ignores

    async def shown(
        self, viewer: Viewer, device_id: str | None, room: Room, items: Sequence[Visible]
    ) -> list[bytes]:
        """Events of a room as client events, with `room_id` and their bundles."""
        found = await self.of(viewer, device_id, {room: [item.stored for item in items]})
        reader = Reader(viewer.user_nid, device_id)
        return [self._render(reader, item, found.get(item.stored.nid, b"")) for item in items]

    async def of(
        self, viewer: Viewer, device_id: str | None, pages: Pages, *, threads: bool = True
    ) -> dict[int, bytes]:
        """event_nid -> the member `m.relations` of `unsigned`, with a leading comma.

        At most one query for pages without relations, a bounded number for the others. `threads`: events may begin threads.
        """
        ids = [s.event.event_id for page in pages.values() for s in page if s.event.state_key is None]
        related = await self._related.among(ids) if ids else None
        if not related:
            return {}
        look = await self._look(viewer, pages, related)
        async with self._db.read() as tx, tx.pipeline() as batch:
            found = store.find_threads(batch, look.parents if threads else [], viewer.user_nid, look.ignored)
            edits = store.find_edits(
                batch, [p for p in look.parents if _may_be_edited(look.stored[p.event_id])]
            )
            references = store.find_references(batch, look.parents, look.ignored)
        reader = Reader(viewer.user_nid, device_id)
        parts: dict[str, list[bytes]] = {}
        for parent, edit in (await self._edits(look, edits.result)).items():
            parts.setdefault(parent, []).append(b'"m.replace":' + self._render(reader, edit))
        for parent, thread in (await self._threads(look, reader, found.result)).items():
            parts.setdefault(parent, []).append(b'"m.thread":' + thread)
        for parent, children in (await self._references(look, references.result)).items():
            chunk = json.dumps({"chunk": [{"event_id": event_id} for event_id in children]})
            parts.setdefault(parent, []).append(b'"m.reference":' + chunk)
        return {
            look.stored[parent].nid: b',"m.relations":{%b}' % b",".join(found)
            for parent, found in parts.items()
        }

    async def _look(self, viewer: Viewer, pages: Pages, related: set[str]) -> _Look:
        look = _Look(viewer, list(await self.ignored(viewer)), {}, {}, [])
        for room, page in pages.items():
            look.rooms[room.name.nid] = room
            sure = await self._visibility.sees_all(viewer, room)
            unsure_upto = -NEWEST if sure else min(plain_after(room, viewer), NEWEST)
            for stored in page:
                event = stored.event
                if event.event_id in related and not event.is_state:
                    look.stored[event.event_id] = stored
                    look.parents.append(
                        Parent(event.event_id, room.name.nid, stored.sender_nid, event.type, unsure_upto)
                    )
        return look

    async def ignored(self, viewer: Viewer) -> frozenset[int]:
        """user_nids of those the viewer ignores."""
        if self._ignores is None or not (names := (await self._ignores.of(viewer.user_nid)).ignored):
            return frozenset()
        return frozenset((await self._interning.find_user_nids([UserId(name) for name in names])).values())

    async def _seen(self, look: _Look, nids: set[int]) -> dict[int, Visible]:
        """Those of these events that the reader may see."""
        if not nids:
            return {}
        pages: dict[Room, list[Stored]] = {}
        for stored in (await self._events.load(nids)).values():
            pages.setdefault(look.rooms[stored.room_nid], []).append(stored)
        seen = await self._visibility.many(look.viewer, pages)
        return {item.stored.nid: item for items in seen.values() for item in items}

    async def _edits(self, look: _Look, rows: Sequence[tuple[str, int]]) -> dict[str, Visible]:
        """Event id -> its newest valid edit."""
        candidates: dict[str, list[int]] = {}
        for parent, nid in rows:
            candidates.setdefault(parent, []).append(nid)
        chosen: dict[str, Visible] = {}
        for size in (1, store.MAX_EDITS):  # the newest is the one, but for broken or hidden ones
            open_ = {parent: nids[:size] for parent, nids in candidates.items() if parent not in chosen}
            seen = await self._seen(look, {nid for nids in open_.values() for nid in nids})
            for parent, nids in open_.items():
                valid = (seen[nid] for nid in nids if nid in seen and _replaces(seen[nid].stored))
                if (edit := next(valid, None)) is not None:
                    chosen[parent] = edit
        return chosen

    async def _threads(self, look: _Look, reader: Reader, rows: Sequence[ThreadRow]) -> dict[str, bytes]:
        """Root id -> JSON."""
        rows = await self._counted(look, rows)
        seen = await self._seen(look, {row.latest_nid for row in rows})
        pages: dict[Room, list[Stored]] = {}
        for item in seen.values():
            pages.setdefault(look.rooms[item.stored.room_nid], []).append(item.stored)
        inner = await self.of(look.viewer, reader.device_id, pages, threads=False)
        found: dict[str, bytes] = {}
        for row in rows:
            if (latest := seen.get(row.latest_nid)) is not None:
                took_part = row.participated or look.stored[row.root_id].sender_nid == reader.user_nid
                found[row.root_id] = b'{"latest_event":%b,"count":%d,"current_user_participated":%b}' % (
                    self._render(reader, latest, inner.get(row.latest_nid, b"")),
                    row.count_,
                    b"true" if took_part else b"false",
                )
        return found

    async def _counted(self, look: _Look, rows: Sequence[ThreadRow]) -> list[ThreadRow]:
        """The same without replies that the reader may not see."""
        doubtful = {row.root_id for row in rows if row.unsure}
        if not doubtful:
            return list(rows)
        async with self._db.read() as tx:
            parents = [parent for parent in look.parents if parent.event_id in doubtful]
            replies = await store.find_replies(tx, parents, look.ignored)
        seen = await self._seen(look, {nid for _, nid in replies})
        counted: list[ThreadRow] = []
        for row in rows:
            kept = [nid for root, nid in replies if root == row.root_id and nid in seen]
            sure = row.count_ - row.unsure
            latest = row.latest_nid if sure or not kept else max(kept)
            if sure or kept:
                counted.append(row._replace(count_=sure + len(kept), latest_nid=latest, unsure=0))
        return counted

    async def _references(self, look: _Look, rows: Sequence[ReferenceRow]) -> dict[str, list[str]]:
        """Event id -> ids of the events that refer to it."""
        unsure = {parent.event_id: parent.unsure_upto for parent in look.parents}
        seen = await self._seen(
            look, {row.event_nid for row in rows if row.event_nid <= unsure[row.parent_id]}
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            if row.event_nid > unsure[row.parent_id] or row.event_nid in seen:
                found.setdefault(row.parent_id, []).append(row.event_id)
        return found

    def _render(self, reader: Reader, item: Visible, extra: bytes = b"") -> bytes:
        return item.stored.render(
            reader,
            item.membership,
            self._clock.now_ms(),
            previous=item.previous,
            extra=extra,
            members=room_member(item.stored.event.room_id),
        )


NEWEST = 2**62


def _may_be_edited(stored: Stored) -> bool:
    """Not what is an edit itself, nor what was redacted or erased: what it became must not tell what it was (REL-06)."""
    if stored.redaction is not None or not stored.event.content:
        return False
    relation = relation_of(stored.event)
    return relation is None or relation.rel_type != "m.replace"


def _replaces(edit: Stored) -> bool:
    """Whether it says what is new, where that can be seen. spec: #validity-of-replacement-events (REL-05)"""
    return edit.event.type == "m.room.encrypted" or isinstance(edit.event.content.get("m.new_content"), dict)
