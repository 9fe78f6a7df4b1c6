"""Taking one's settings along into the room that replaces another: tags, push rules, whom it is a direct chat with.

spec: client-server-api/#room-upgrades: "When a user joins the new room" (ROOM-27)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Conflict
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId, is_room_id
from homeserver.rooms.memberships import Memberships
from homeserver.rooms.ports import RoomSettings
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.rooms")


class Successors:
    """Copies members' settings into the room that replaces another. What cannot be copied is noted, and stands in nobody's way."""

    def __init__(self, memberships: Memberships, events: EventCache, interning: Interning) -> None:
        self._memberships = memberships
        self._events = events
        self._interning = interning
        self._settings: list[RoomSettings] = []

    def copy_with(self, *features: RoomSettings) -> None:
        """Plug in who keeps something that users have set for a room."""
        self._settings.extend(features)

    async def joined(self, requester: Requester, room: Room) -> None:
        """A user has joined a room: if it replaces one they know, their settings come along."""
        nid = room.state.get(("m.room.create", ""))
        create = await self._events.one(nid) if nid else None
        if create is not None:
            await self.created(requester, room.name, create.event.content)

    async def created(self, requester: Requester, new: RoomIdentity, content: Mapping[str, Any]) -> None:
        """A user has made a room, which is joining it too: as `joined`. `content`: that of its m.room.create."""
        predecessor = content.get("predecessor")
        old_id = predecessor.get("room_id") if isinstance(predecessor, dict) else None
        if not isinstance(old_id, str) or not is_room_id(old_id):
            return
        old = await self._interning.room(RoomId(old_id))
        if old is None or old.nid not in (await self._memberships.of(requester.user_nid)).rooms:
            return
        await self.moved(requester, old, new)

    async def moved(self, requester: Requester, old: RoomIdentity, new: RoomIdentity) -> None:
        """Copy a user's settings."""
        for settings in self._settings:
            try:
                await settings.copy_room_settings(requester, old, new)
            except (MatrixError, Conflict) as error:
                _log.warning("settings_not_copied", room_nid=new.nid, error=repr(error))
