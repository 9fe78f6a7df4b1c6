"""Results that are shown: what the index has found is looked at once more, as the events are by now.

The index follows the log, and may be some moments behind: what was edited since, redacted, or is gone, is no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.search.indexer import Indexer
from homeserver.search.matches_store import Match
from homeserver.search.words import text_of
from homeserver.storage.database import Database


class Result(NamedTuple):
    """A result that is shown."""

    match: Match
    room: Room
    seen: Visible
    text: str
    """What was searched: of an edited message its newest text."""


class Results:
    """Makes results of matches. Keeps nothing in memory."""

    def __init__(  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        visibility: VisibilityFilter,
        indexer: Indexer,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._visibility = visibility
        self._indexer = indexer

    async def of(
        self, viewer: Viewer, ends: Mapping[int, Position], matches: Sequence[Match]
    ) -> dict[int, Result]:
        """event_nid -> the result, of those that still are some."""
        async with self._db.read() as tx:
            events = await self._events.load_in(tx, [match.event_nid for match in matches])
            edits = await self._indexer.newest_edits(tx, events.values())
        rooms = await self._rooms.get_many({persisted.room_nid for persisted in events.values()})
        pages: dict[Room, list[PersistedEvent]] = {}
        for persisted in (*events.values(), *edits.values()):
            if persisted.nid <= ends[persisted.room_nid] and persisted.redaction is None:
                pages.setdefault(rooms[persisted.room_nid], []).append(persisted)
        seen = {
            item.persisted.nid: item
            for items in (await self._visibility.many(viewer, pages)).values()
            for item in items
        }
        found: dict[int, Result] = {}
        for match in matches:
            item = seen.get(match.event_nid)
            # What was stripped for this viewer says nothing that they could search.
            if item is None or item.persisted is not events.get(match.event_nid):
                continue
            edit = edits.get(item.persisted.event.event_id)
            if (edit.nid if edit is not None else 0) != match.edit_nid:
                continue
            if edit is not None and edit.nid not in seen:
                continue
            text = text_of(item.persisted.event, edit.event if edit is not None else None)
            if text is not None:
                found[match.event_nid] = Result(match, rooms[match.room_nid], item, text.text)
        return found
