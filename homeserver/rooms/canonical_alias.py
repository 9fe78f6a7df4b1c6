"""m.room.canonical_alias: new aliases must be well formed and point here.

spec: client-server-api/#mroomcanonical_alias (ROOM-11)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import BadAlias, BadJson, InvalidParam
from homeserver.matrix.ids import RoomAlias, is_room_alias
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from homeserver.rooms import store
from homeserver.storage.database import Database

CANONICAL_ALIAS = ("m.room.canonical_alias", "")
MAX_ALIASES = 100


class AliasCheck:
    """A check of the policy gate on what a client wants to set in a room."""

    def __init__(self, db: Database, rooms: Rooms, events: EventCache) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events

    @property
    def check(self) -> Check:
        """See `Manifest.policy`."""
        return Check(
            name="rooms.canonical_alias",
            kinds={Kind.STATE},
            types={CANONICAL_ALIAS[0]},
            decide=self._decide,
            when_failing="refuse",
        )

    async def _decide(self, act: Act) -> Verdict:
        """`InvalidParam` (grammar), `BadAlias` (unknown, or of another room) for aliases that are new, `BadJson`."""
        # A room that is not there yet has the alias that is made with it.
        room = await self._rooms.by_id(act.room_id) if act.room_id is not None else None
        if room is None or act.state_key != "":
            return ALLOW
        try:
            await self._require_ours(room, act.content)
        except (InvalidParam, BadAlias, BadJson) as no:
            return Refuse(no)
        return ALLOW

    async def _require_ours(self, room: Room, content: Mapping[str, Any]) -> None:
        wanted = aliases_of(content)
        current = room.state.get(CANONICAL_ALIAS)
        before = await self._events.one(current) if current else None
        old = set(_strings(before.event.content)) if before else set()
        new = [alias for alias in wanted if alias not in old]
        for alias in new:
            if not is_room_alias(alias):
                raise InvalidParam(f"{alias[:255]}: not a room alias")
        async with self._db.read() as tx:
            for alias in new:
                found = await store.find_alias(tx, RoomAlias(alias))
                if found is None or found[0] != room.name.nid:
                    raise BadAlias(f"{alias} does not point to this room")


def aliases_of(content: Mapping[str, Any]) -> list[str]:
    """`alias` and `alt_aliases`. Raises `BadJson` with the place of what is not a string."""
    alias, alternatives = content.get("alias"), content.get("alt_aliases", [])
    if alias is not None and not isinstance(alias, str):
        raise BadJson("content.alias: not a string")
    if not isinstance(alternatives, list) or len(alternatives) > MAX_ALIASES:
        raise BadJson(f"content.alt_aliases: not a list of at most {MAX_ALIASES} aliases")
    for index, value in enumerate(alternatives):
        if not isinstance(value, str):
            raise BadJson(f"content.alt_aliases[{index}]: not a string")
    return [alias, *alternatives] if alias else list(alternatives)


def without(content: Mapping[str, Any], alias: RoomAlias) -> dict[str, Any] | None:
    """The content without an alias that is gone; None if it does not name it."""
    alternatives = content.get("alt_aliases")
    kept = [each for each in alternatives if each != alias] if isinstance(alternatives, list) else None
    if content.get("alias") != alias and kept == alternatives:
        return None
    left = {key: value for key, value in content.items() if key != "alt_aliases"}
    if left.get("alias") == alias:
        del left["alias"]
    return left | ({"alt_aliases": kept} if kept else {})


def _strings(content: Mapping[str, Any]) -> list[str]:
    alternatives = content.get("alt_aliases")
    values = [content.get("alias"), *(alternatives if isinstance(alternatives, list) else ())]
    return [value for value in values if isinstance(value, str)]
