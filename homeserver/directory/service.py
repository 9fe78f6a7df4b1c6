"""The list of published rooms: reading it, and putting rooms into it.

spec: client-server-api/#published-room-directory (CHECKLIST DIR)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from homeserver.config.rooms import DirectorySection
from homeserver.directory import store
from homeserver.directory.descriptions import Descriptions, size_of
from homeserver.directory.folded_rooms import FoldedRooms
from homeserver.directory.orders import RoomListOrders
from homeserver.directory.types import Page, Place, PublishedRoom, Wanted
from homeserver.events.auth_rules.power import can_send
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.read.page_size import PAGE_BYTES, fitting
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden, MissingToken, NotFound
from homeserver.matrix.ids import RoomId
from homeserver.policy.gate import Gate
from homeserver.policy.types import publish_act
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

AT_ONCE: Final = 2_000
"""Rooms looked at without letting others have their turn."""
CREATE: Final = ("m.room.create", "")
LEVELS: Final = ("m.room.power_levels", "")


class RoomDirectory:
    """Reads and changes the room directory. Keeps the last list in memory, of at most `store.MAX_PUBLISHED` rooms."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        gate: Gate,
        orders: RoomListOrders,
        descriptions: Descriptions,
        config: DirectorySection,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._gate = gate
        self._orders = orders
        self._descriptions = descriptions
        self._config = config
        self._folded = FoldedRooms()
        self._last = _List(-1, (), ())

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
            there = await self._descriptions.of(published)
            shown = [(n, there[nid]) for n, nid in enumerate(cut) if nid in there]
            fits = fitting((size_of(room) for _, room in shown), PAGE_BYTES)
            left = shown[fits][0] if fits < len(shown) else len(cut)
            return Page([room for _, room in shown[:fits]], place, len(order), place.start + left)
        async with self._db.read() as tx:
            nids = await store.list_published(tx, wanted.network)
        found = await self._matching(await self._in_order(nids), wanted)
        wished, kept = [listed.room for listed in found[place.start : place.start + limit]], None
        page = wished[: fitting(map(size_of, wished), PAGE_BYTES)]
        if len(found) > len(page):
            kept = await self._orders.keep([listed.nid for listed in found])
        return Page(page, Place(place.start, kept), len(found), place.start + len(page))

    async def _in_order(self, room_nids: Sequence[int]) -> Sequence[_Listed]:
        """These rooms, those with most members first. The last list is kept: most who ask, ask for the same."""
        if self._last.changes == self._descriptions.changes and self._last.room_nids == room_nids:
            return self._last.rooms
        changes = self._descriptions.changes
        described = list((await self._descriptions.of(room_nids)).items())
        listed: list[_Listed] = []
        for some in pieces(described, AT_ONCE):
            listed += [_Listed(nid, room, self._folded.of(room)) for nid, room in some]
            await next_turn()  # a long list is gone through in pieces
        listed.sort(key=_by_size)
        self._last = _List(changes, room_nids, listed)
        return listed

    async def _matching(self, rooms: Sequence[_Listed], wanted: Wanted) -> Sequence[_Listed]:
        if wanted.types is None and not wanted.words:
            return rooms
        found: list[_Listed] = []
        for piece in pieces(rooms, AT_ONCE):
            some = piece
            if wanted.types is not None:
                some = [listed for listed in some if listed.room.room_type in wanted.types]
            for word in wanted.words:
                some = [listed for listed in some if word in listed.folded]
            found += some
            await next_turn()
        return found

    async def describe(self, rooms: Sequence[Room]) -> list[PublishedRoom]:
        """Rooms as the list would show them, whether or not they are in it. One query for what is not in memory."""
        return list((await self._descriptions.look_at({room.name.nid: room for room in rooms})).values())

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


class _Listed(NamedTuple):
    """A room in the list."""

    nid: int
    room: PublishedRoom
    folded: str
    """What it is found by."""


class _List(NamedTuple):
    """A whole list, and what it was made of."""

    changes: int
    room_nids: Sequence[int]
    rooms: Sequence[_Listed]


def _by_size(listed: _Listed) -> tuple[int, str]:
    """Those with most members first."""
    return -listed.room.num_joined_members, listed.room.room_id
