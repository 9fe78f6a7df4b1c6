"""What the list says of each room, remembered: a list of ten thousand rooms is put together in some milliseconds.

A projection of the log: what a room says of itself changes with its state and its members alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from homeserver.directory.types import PublishedRoom
from homeserver.events.event import Event, StateKey
from homeserver.events.visibility import WORLD_READABLE
from homeserver.graph.entry import EventEntry, RedactedEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.log.tail import Handler, Narrowed
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.turns import next_turn, pieces

SHARE: Final = 0.5
ROOM_BYTES: Final = 600
"""What a room takes in the cache beside what it is called."""
AT_ONCE: Final = 200
"""Rooms looked at without letting others have their turn."""
MAX_TEXTS: Final = 10
"""Representations of a topic that are looked at."""
_SHOWN: Final[Sequence[StateKey]] = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
    ("m.room.guest_access", ""),
)


class Descriptions:
    """A projection: rooms as the list shows them, of those that were listed lately; a bounded cache."""

    def __init__(self, rooms: Rooms, events: EventCache, memory: MemoryBudget) -> None:
        self._rooms = rooms
        self._events = events
        self.changes = 0
        """Counts what may have changed of what `of` has told: with the same count it would tell the same."""
        self._told: set[int] = set()
        """Rooms that were asked for since they last changed; no more than were ever published."""
        self._known: Remembered[int, PublishedRoom] = Remembered(memory.cache("published_rooms", SHARE))

    async def of(self, room_nids: Collection[int]) -> dict[int, PublishedRoom]:
        """room_nid -> the room, in this order."""
        self._told.update(room_nids)  # before anything is awaited: what changes meanwhile is counted
        known = self._known.get_all(room_nids)
        missing = [nid for nid, room in known.items() if room is None]
        for some in pieces(missing, AT_ONCE):
            version = self._known.version
            described = await self.look_at(await self._rooms.get_many(some))
            for nid, room in described.items():
                self._known.add(nid, room, version, ROOM_BYTES + size_of(room))
            known |= described
            await next_turn()  # a long list is gone through in pieces
        return {nid: room for nid, room in known.items() if room is not None}

    async def look_at(self, rooms: Mapping[int, Room]) -> dict[int, PublishedRoom]:
        """The same of rooms at hand, as they are now."""
        events = await self._events.load(
            {room.state[key] for room in rooms.values() for key in _SHOWN if key in room.state}
        )
        return {
            nid: _describe(
                room,
                {
                    key[0]: events[room.state[key]].event
                    for key in _SHOWN
                    if key in room.state and room.state[key] in events
                },
            )
            for nid, room in rooms.items()
        }

    # --- the projection ------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._event, touches_state), RedactedEntry: self._redacted}

    def reset(self) -> None:
        self.changes += 1
        self._known.reset()

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        if any(target.event.is_state for target in entry.targets):
            self._has_changed(entry.room_nid)

    def _event(self, _: Position, entry: EventEntry) -> None:
        self._has_changed(entry.persisted.room_nid)

    def _has_changed(self, room_nid: int) -> None:
        if room_nid in self._told:
            self._told.discard(room_nid)
            self.changes += 1
        self._known.changed(room_nid)


def _describe(room: Room, state: dict[str, Event]) -> PublishedRoom:
    def text(kind: str, key: str) -> str | None:
        value: Any = state[kind].content.get(key) if kind in state else None
        return value if isinstance(value, str) and value else None

    return PublishedRoom(
        room_id=room.name.room_id,
        num_joined_members=room.joined_count,
        world_readable=text("m.room.history_visibility", "history_visibility") == WORLD_READABLE,
        guest_can_join=text("m.room.guest_access", "guest_access") == "can_join",
        join_rule=text("m.room.join_rules", "join_rule") or "invite",
        name=text("m.room.name", "name"),
        topic=_plain(state["m.room.topic"].content) if text("m.room.topic", "topic") else None,
        avatar_url=text("m.room.avatar", "url"),
        canonical_alias=text("m.room.canonical_alias", "alias"),
        room_type=text("m.room.create", "type"),
    )


def _plain(content: Mapping[str, Any]) -> str:
    """The topic as plain text: the first of its representations that is, else what older clients say. Where that is empty
    there is no topic. spec: client-server-api/#mroomtopic, #mtext-content-block
    """
    block = content.get("m.topic")
    given = block.get("m.text") if isinstance(block, dict) else None
    for each in given[:MAX_TEXTS] if isinstance(given, list) else ():
        if isinstance(each, dict) and each.get("mimetype", "text/plain") == "text/plain":
            body = each.get("body")
            if isinstance(body, str) and body:
                return body
    return str(content["topic"])


def size_of(room: PublishedRoom) -> int:
    """Bytes of what a room is called, at most: all else is short."""
    return sum(
        4 * len(text) for text in (room.name, room.topic, room.avatar_url, room.canonical_alias) if text
    )
