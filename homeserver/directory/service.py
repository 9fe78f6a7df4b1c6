"""The list of published rooms: reading it, and putting rooms into it.

spec: client-server-api/#published-room-directory (CHECKLIST DIR)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from homeserver.config.rooms import DirectorySection
from homeserver.directory import store
from homeserver.directory.folded_rooms import FoldedRooms
from homeserver.directory.orders import RoomListOrders
from homeserver.directory.types import Page, Place, PublishedRoom, Wanted
from homeserver.events.auth_rules.power import can_send
from homeserver.events.event import Event, StateKey
from homeserver.events.visibility import WORLD_READABLE
from homeserver.graph.event_cache import EventCache
from homeserver.graph.read.page_size import PAGE_BYTES, fitting
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden, MissingToken, NotFound
from homeserver.matrix.ids import RoomId
from homeserver.policy.gate import Gate
from homeserver.policy.types import publish_act
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

AT_ONCE: Final = 200
"""Rooms looked at without letting others have their turn."""
CREATE: Final = ("m.room.create", "")
LEVELS: Final = ("m.room.power_levels", "")
_SHOWN: Final[Sequence[StateKey]] = (
    CREATE,
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
    ("m.room.guest_access", ""),
)


class RoomDirectory:
    """Reads and changes the room directory. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        gate: Gate,
        orders: RoomListOrders,
        config: DirectorySection,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._gate = gate
        self._orders = orders
        self._config = config
        self._folded = FoldedRooms()

    # --- reading -------------------------------------------------------------------------------------------------

    def require_reader(self, requester: Requester | None) -> None:
        """Raises `Forbidden`, `MissingToken` for who may not read the list."""
        if self._config.read == "nobody":
            raise Forbidden("The list of rooms is closed")
        if self._config.read == "members" and requester is None:
            raise MissingToken("The list of rooms is for people with an account here")

    async def page(self, wanted: Wanted, place: Place, limit: int) -> Page:
        """Rooms from a place on, those with most members first; with those of the pages before, all there were at the
        first of them and each once.
        """
        if place.order is not None and (order := await self._orders.find(place.order)) is not None:
            cut = order[place.start : place.start + limit]
            async with self._db.read() as tx:
                published = await store.still_published(tx, cut, wanted.network)
            there = await self._rooms.get_many(published)
            shown = await self._shown([there[nid] for nid in cut if nid in there])
            fits = shown[: fitting(map(_size, shown), PAGE_BYTES)]
            if len(fits) == len(shown):
                return Page(fits, place, len(order), place.start + len(cut))
            left = {room.room_id for room in shown[len(fits) :]}
            first_left = next(
                n for n, nid in enumerate(cut) if nid in there and there[nid].name.room_id in left
            )
            return Page(fits, place, len(order), place.start + first_left)
        async with self._db.read() as tx:
            nids = await store.list_published(tx, wanted.network)
        rooms = await self._rooms.get_many(nids)
        found = await self._matching(list(rooms.values()), wanted)
        found.sort(key=lambda room: (-room.num_joined_members, room.room_id))
        wished, kept = found[place.start : place.start + limit], None
        page = wished[: fitting(map(_size, wished), PAGE_BYTES)]
        if len(found) > len(page):
            by_id = {room.name.room_id: nid for nid, room in rooms.items()}
            kept = await self._orders.keep([by_id[room.room_id] for room in found])
        return Page(page, Place(place.start, kept), len(found), place.start + len(page))

    async def _matching(self, rooms: Sequence[Room], wanted: Wanted) -> list[PublishedRoom]:
        found: list[PublishedRoom] = []
        for start in range(0, len(rooms), AT_ONCE):
            shown = await self._shown(rooms[start : start + AT_ONCE])
            found += [room for room in shown if self._matches(room, wanted)]
            await next_turn()  # a long list is gone through in pieces
        return found

    def _matches(self, room: PublishedRoom, wanted: Wanted) -> bool:
        if wanted.types is not None and room.room_type not in wanted.types:
            return False
        if not wanted.words:
            return True
        folded = self._folded.of(room)
        return all(word in folded for word in wanted.words)

    async def describe(self, rooms: Sequence[Room]) -> list[PublishedRoom]:
        """Rooms as the list would show them, whether or not they are in it. One query for what is not in memory."""
        return await self._shown(rooms)

    async def _shown(self, rooms: Sequence[Room]) -> list[PublishedRoom]:
        events = await self._events.load(
            {room.state[key] for room in rooms for key in _SHOWN if key in room.state}
        )
        return [
            _publish(
                room,
                {
                    key[0]: events[room.state[key]].event
                    for key in _SHOWN
                    if key in room.state and room.state[key] in events
                },
            )
            for room in rooms
        ]

    # --- changing ------------------------------------------------------------------------------------------------

    async def is_published(self, room_id: RoomId) -> bool:
        """Raises `NotFound`."""
        room = await self._known(room_id)
        async with self._db.read() as tx:
            return await store.is_published(tx, room.name.nid)

    async def set_published(self, requester: Requester, room_id: RoomId, *, published: bool) -> None:
        """Put a room into the list, or take it out. Raises `NotFound`, `Forbidden`."""
        room = await self._known(room_id)
        if published:
            await self._gate.admit(requester, publish_act(requester, room_id))
        if not requester.is_admin and not await self._may_manage(requester, room):
            raise Forbidden("Only who may name the room's addresses may do this")
        async with self._db.transaction() as tx:
            await (store.publish if published else store.unpublish)(tx, room.name.nid, "")

    async def set_listed(self, room_id: RoomId, network: str, *, listed: bool) -> None:
        """Put a room into the list of a third-party network, or take it out: for the application service whose it is.

        `network`: the id of the instance, as clients name it. Raises `NotFound`.
        """
        room = await self._known(room_id)
        async with self._db.transaction() as tx:
            await (store.publish if listed else store.unpublish)(tx, room.name.nid, network)

    async def _known(self, room_id: RoomId) -> Room:
        room = await self._rooms.by_id(room_id)
        if room is None:
            raise NotFound("There is no such room")
        return room

    async def _may_manage(self, requester: Requester, room: Room) -> bool:
        keys: list[StateKey] = [CREATE, LEVELS, ("m.room.member", requester.user_id)]
        loaded = await self._events.load([room.state[key] for key in keys if key in room.state])
        state = {persisted.event.key: persisted.event for persisted in loaded.values() if persisted.event.key}
        member = state.get(keys[2])
        return (
            member is not None
            and member.membership == "join"
            and can_send(state, requester.user_id, "m.room.canonical_alias", room.name.version, is_state=True)
        )


def _publish(room: Room, state: dict[str, Event]) -> PublishedRoom:
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
        topic=text("m.room.topic", "topic"),
        avatar_url=text("m.room.avatar", "url"),
        canonical_alias=text("m.room.canonical_alias", "alias"),
        room_type=text("m.room.create", "type"),
    )


def _size(room: PublishedRoom) -> int:
    """Bytes of what a room is called, at most: all else is short."""
    return sum(
        4 * len(text) for text in (room.name, room.topic, room.avatar_url, room.canonical_alias) if text
    )
