"""Bundled aggregations: what relates to an event, in short, in its `unsigned`.

Most events have no relations, so a page asks that first. What is told leaves out ignored users, redacted children (they
have no row), and children the reader may not see.
spec: client-server-api/#aggregations-of-child-events (REL-02 to REL-09)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from homeserver.events.client_format import room_member
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read import bundle_store as store
from homeserver.graph.read.bundle_store import Parent, ReferenceRow, ThreadRow
from homeserver.graph.read.related import Related
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible, plain_after
from homeserver.graph.relations import relation_of
from homeserver.graph.rooms.room import Room
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

Pages = Mapping[Room, Sequence[PersistedEvent]]


class Ignoring(Protocol):
    """Whom a user ignores."""

    @property
    def ignored(self) -> frozenset[str]:
        """User ids."""
        ...


class Ignores(Protocol):
    """Fulfilled by account data."""

    async def of(self, user_nid: int) -> Ignoring: ...


class _BundleContext(NamedTuple):
    """Whose eyes, and on what."""

    viewer: Viewer
    ignored: list[int]
    persisted: dict[str, PersistedEvent]
    """The parents by event id."""
    rooms: dict[int, Room]
    parents: list[Parent]


class Bundles:
    """Puts bundled aggregations together for a page of events. Keeps nothing in memory but who may be ignored."""

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
        found = await self.of(viewer, device_id, {room: [item.persisted for item in items]})
        reader = Reader(viewer.user_nid, device_id)
        return [self._render(reader, item, found.get(item.persisted.nid, b"")) for item in items]

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
        context = await self._context(viewer, pages, related)
        async with self._db.read() as tx, tx.pipeline() as batch:
            found = store.find_threads(
                batch, context.parents if threads else [], viewer.user_nid, context.ignored
            )
            edits = store.find_edits(
                batch, [p for p in context.parents if _may_be_edited(context.persisted[p.event_id])]
            )
            references = store.find_references(batch, context.parents, context.ignored)
        reader = Reader(viewer.user_nid, device_id)
        parts: dict[str, list[bytes]] = {}
        for parent, edit in (await self._edits(context, edits.result)).items():
            parts.setdefault(parent, []).append(b'"m.replace":' + self._render(reader, edit))
        for parent, thread in (await self._threads(context, reader, found.result)).items():
            parts.setdefault(parent, []).append(b'"m.thread":' + thread)
        for parent, children in (await self._references(context, references.result)).items():
            chunk = json.dumps({"chunk": [{"event_id": event_id} for event_id in children]})
            parts.setdefault(parent, []).append(b'"m.reference":' + chunk)
        return {
            context.persisted[parent].nid: b',"m.relations":{%b}' % b",".join(found)
            for parent, found in parts.items()
        }

    async def _context(self, viewer: Viewer, pages: Pages, related: set[str]) -> _BundleContext:
        context = _BundleContext(viewer, list(await self.ignored(viewer)), {}, {}, [])
        for room, page in pages.items():
            context.rooms[room.name.nid] = room
            sure = await self._visibility.sees_all(viewer, room)
            unsure_upto = -NEWEST if sure else min(plain_after(room, viewer), NEWEST)
            for persisted in page:
                event = persisted.event
                if event.event_id in related and not event.is_state:
                    context.persisted[event.event_id] = persisted
                    context.parents.append(
                        Parent(event.event_id, room.name.nid, persisted.sender_nid, event.type, unsure_upto)
                    )
        return context

    async def ignored(self, viewer: Viewer) -> frozenset[int]:
        """user_nids of those the viewer ignores."""
        if self._ignores is None or not (names := (await self._ignores.of(viewer.user_nid)).ignored):
            return frozenset()
        return frozenset((await self._interning.find_user_nids([UserId(name) for name in names])).values())

    async def _seen(self, context: _BundleContext, nids: set[int]) -> dict[int, Visible]:
        """Those of these events that the reader may see."""
        if not nids:
            return {}
        pages: dict[Room, list[PersistedEvent]] = {}
        for persisted in (await self._events.load(nids)).values():
            pages.setdefault(context.rooms[persisted.room_nid], []).append(persisted)
        seen = await self._visibility.many(context.viewer, pages)
        return {item.persisted.nid: item for items in seen.values() for item in items}

    async def _edits(self, context: _BundleContext, rows: Sequence[tuple[str, int]]) -> dict[str, Visible]:
        """Event id -> its newest valid edit."""
        candidates: dict[str, list[int]] = {}
        for parent, nid in rows:
            candidates.setdefault(parent, []).append(nid)
        chosen: dict[str, Visible] = {}
        for size in (1, store.MAX_EDITS):  # the newest is the one, but for broken or hidden ones
            open_ = {parent: nids[:size] for parent, nids in candidates.items() if parent not in chosen}
            seen = await self._seen(context, {nid for nids in open_.values() for nid in nids})
            for parent, nids in open_.items():
                valid = (seen[nid] for nid in nids if nid in seen and replaces(seen[nid].persisted))
                if (edit := next(valid, None)) is not None:
                    chosen[parent] = edit
        return chosen

    async def _threads(
        self, context: _BundleContext, reader: Reader, rows: Sequence[ThreadRow]
    ) -> dict[str, bytes]:
        """Root id -> JSON."""
        rows = await self._counted(context, rows)
        seen = await self._seen(context, {row.latest_nid for row in rows})
        pages: dict[Room, list[PersistedEvent]] = {}
        for item in seen.values():
            pages.setdefault(context.rooms[item.persisted.room_nid], []).append(item.persisted)
        inner = await self.of(context.viewer, reader.device_id, pages, threads=False)
        found: dict[str, bytes] = {}
        for row in rows:
            if (latest := seen.get(row.latest_nid)) is not None:
                took_part = row.participated or context.persisted[row.root_id].sender_nid == reader.user_nid
                found[row.root_id] = b'{"latest_event":%b,"count":%d,"current_user_participated":%b}' % (
                    self._render(reader, latest, inner.get(row.latest_nid, b"")),
                    row.count_,
                    b"true" if took_part else b"false",
                )
        return found

    async def _counted(self, context: _BundleContext, rows: Sequence[ThreadRow]) -> list[ThreadRow]:
        """The same without replies that the reader may not see."""
        doubtful = {row.root_id for row in rows if row.unsure}
        if not doubtful:
            return list(rows)
        async with self._db.read() as tx:
            parents = [parent for parent in context.parents if parent.event_id in doubtful]
            replies = await store.find_replies(tx, parents, context.ignored)
        seen = await self._seen(context, {nid for _, nid in replies})
        counted: list[ThreadRow] = []
        for row in rows:
            kept = [nid for root, nid in replies if root == row.root_id and nid in seen]
            sure = row.count_ - row.unsure
            latest = row.latest_nid if sure or not kept else max(kept)
            if sure or kept:
                counted.append(row._replace(count_=sure + len(kept), latest_nid=latest, unsure=0))
        return counted

    async def _references(
        self, context: _BundleContext, rows: Sequence[ReferenceRow]
    ) -> dict[str, list[str]]:
        """Event id -> ids of the events that refer to it."""
        unsure = {parent.event_id: parent.unsure_upto for parent in context.parents}
        seen = await self._seen(
            context, {row.event_nid for row in rows if row.event_nid <= unsure[row.parent_id]}
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            if row.event_nid > unsure[row.parent_id] or row.event_nid in seen:
                found.setdefault(row.parent_id, []).append(row.event_id)
        return found

    def _render(self, reader: Reader, item: Visible, extra: bytes = b"") -> bytes:
        return item.persisted.render(
            reader,
            item.membership,
            self._clock.now_ms(),
            previous=item.previous,
            extra=extra,
            members=room_member(item.persisted.event.room_id),
        )


NEWEST = 2**62


def _may_be_edited(persisted: PersistedEvent) -> bool:
    """Not what is an edit itself, nor what was redacted or erased: what it became must not tell what it was (REL-06)."""
    if persisted.redaction is not None or not persisted.event.content:
        return False
    relation = relation_of(persisted.event)
    return relation is None or relation.rel_type != "m.replace"


def replaces(edit: PersistedEvent) -> bool:
    """Whether it says what is new, where that can be seen. spec: #validity-of-replacement-events (REL-05)"""
    return edit.event.type == "m.room.encrypted" or isinstance(edit.event.content.get("m.new_content"), dict)
