"""Rooms that anybody may join or read: whose members anybody may find.

A projection of the log, of interest only where people find those alone with whom they could meet. It is built when it is first
asked for; rooms whose rules change are looked at anew when it is asked for again.

spec: client-server-api/#user-directory (CHECKLIST USER-06)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

from homeserver.directory import store
from homeserver.events.visibility import WORLD_READABLE
from homeserver.graph.entry import ADOPTS, EventEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.storage.database import Database

RULES: Final = "m.room.join_rules"
VISIBILITY: Final = "m.room.history_visibility"
AT_ONCE: Final = 500
"""Rooms looked at with one query."""


class OpenRooms:
    """A projection: the rooms that anybody may join or read."""

    def __init__(self, db: Database, events: EventCache) -> None:
        self._db = db
        self._events = events
        self._open: set[int] = set()
        self._changed: set[int] = set()
        """Rooms whose rules have changed since they were looked at."""
        self._built = False
        self._turn = asyncio.Lock()

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._event, touches_state)}

    def reset(self) -> None:
        self._built = False

    async def numbers(self) -> Collection[int]:
        """room_nids, as of now."""
        async with self._turn:
            while not self._built:
                await self._build()
            if self._changed:
                changed, self._changed = self._changed, set()
                await self._look_at(sorted(changed))
            return self._open

    def _event(self, _position: Position, entry: EventEntry) -> None:
        keys = ((RULES, ""), (VISIBILITY, ""))
        if self._built and (entry.place == ADOPTS or any(change.key in keys for change in entry.changes)):
            self._changed.add(entry.persisted.room_nid)

    async def _build(self) -> None:
        self._open.clear()
        self._changed.clear()
        self._built = True  # unless it is to be forgotten meanwhile
        last = 0
        while self._built:
            async with self._db.read() as tx:
                rooms = await store.list_rooms(tx, after=last, limit=AT_ONCE)
            if not rooms:
                return
            last = rooms[-1]
            await self._look_at(rooms)

    async def _look_at(self, room_nids: Sequence[int]) -> None:
        try:
            for start in range(0, len(room_nids), AT_ONCE):
                some = room_nids[start : start + AT_ONCE]
                found = await self._opened(some)
                self._open.difference_update(some)
                self._open.update(found)
        except BaseException:
            self._built = False  # what was not looked at is not known
            raise

    async def _opened(self, room_nids: Sequence[int]) -> set[int]:
        async with self._db.read() as tx:
            rows = await store.find_state(tx, room_nids, (RULES, VISIBILITY))
            events = await self._events.load_in(tx, [event_nid for _, event_nid in rows])
        return {room for room, nid in rows if nid in events and _opens(events[nid].event.content)}


def _opens(content: Any) -> bool:
    opens: bool = content.get("join_rule") == "public" or content.get("history_visibility") == WORLD_READABLE
    return opens
