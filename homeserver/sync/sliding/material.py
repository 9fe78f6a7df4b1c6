"""Gathers what a user's rooms are matched by: from memory, where it is.

spec: MSC4186, "Lists", "SlidingRoomFilter"
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import BAN, INVITE, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms.memberships import Membership, UserRooms
from homeserver.sync.selection.classify import ends_stay
from homeserver.sync.sliding.facts import RoomFacts
from homeserver.sync.sliding.ports import Labels, RoomLabels
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.windows import Material
from homeserver.sync.types import Unwanted
from homeserver.web.auth import Requester

MAX_LEFT: Final = 100
"""Rooms a user was removed from that are listed: the newest."""
CACHED: Final = 20_000
MAX_USERS: Final = 2_000
CHILD: Final = "m.space.child"
MAX_CHILDREN: Final = 2_000
"""Of one space, that a filter looks at."""


class MaterialReader:
    """Gathers what rooms are matched by. Owns what never changes of it: who ended a stay, what was in a space once."""

    def __init__(
        self, rooms: Rooms, events: EventCache, interning: Interning, facts: RoomFacts, labels: RoomLabels
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._facts = facts
        self._labels = labels
        self._removed: OrderedDict[tuple[int, int], bool] = OrderedDict()
        """(event_nid of a membership, user_nid) -> whether with it they were removed from a room they were in."""
        self._room_ids: OrderedDict[int, tuple[Mapping[int, Membership], Mapping[int, str]]] = OrderedDict()
        """user_nid -> their rooms at a moment, and the ids of these."""
        self._children: OrderedDict[tuple[int, int], frozenset[str]] = OrderedDict()
        """(room_nid, state_nid) of a space -> rooms in it."""

    async def of(
        self,
        requester: Requester,
        request: SlidingRequest,
        user: UserRooms,
        unwanted: Unwanted,
        told: Collection[int],
    ) -> Material:
        """As of now; what is not in memory is read. `told`: rooms the connection has been told of."""
        filters = [wanted.filters for wanted in request.lists.values() if wanted.filters is not None]
        labels = await self._labels.of(requester.user_nid)
        spaces: Mapping[str, frozenset[str]] = {}
        named = {space for each in filters for space in each.spaces or ()}
        if named:
            spaces = await self._spaces(requester, named)
        removed = await self._removals(requester, user)
        types = any(each.room_types is not None or each.not_room_types is not None for each in filters)
        like = any(each.room_name_like is not None for each in filters)
        while True:
            position, moment = self._facts.position, user.rooms
            rooms = _listed(user, unwanted, removed, told)
            facts = self._facts.known(rooms)
            if len(facts) < len(rooms):
                await self._facts.load(rooms)
                continue
            ids = await self.ids(requester.user_nid, moment)
            if types or like:
                await self._facts.describe(facts, names=like)
            # Facts and memberships are of one moment if nothing has happened since.
            if position == self._facts.position and moment is user.rooms:
                return Material(
                    rooms=rooms, facts=facts, labels=labels, removed=removed, ids=ids, spaces=spaces
                )

    async def labels(self, user_nid: int) -> Labels:
        """What the user says of their rooms; the same object while nothing has changed."""
        return await self._labels.of(user_nid)

    async def ids(self, user_nid: int, rooms: Mapping[int, Membership]) -> Mapping[int, str]:
        """room_nid -> room id of a user's rooms, which are never changed in place."""
        known = self._room_ids.get(user_nid)
        if known is not None and known[0] is rooms:
            return known[1]
        names = await self._interning.rooms(rooms)
        ids = {nid: str(name.room_id) for nid, name in names.items()}
        self._room_ids[user_nid] = (rooms, ids)
        if len(self._room_ids) > MAX_USERS:
            self._room_ids.popitem(last=False)
        return ids

    async def _removals(self, requester: Requester, user: UserRooms) -> frozenset[int]:
        """Rooms the user was kicked or banned from, of those they left last."""
        if len(user.joined) == len(user.rooms):
            return frozenset()
        left = [
            (own.position, nid, own.event_nid)
            for nid, own in user.rooms.items()
            if own.membership in (LEAVE, BAN) and own.event_nid and not own.forgotten
        ]
        if not left:
            return frozenset()
        newest = sorted(left, reverse=True)[:MAX_LEFT]
        unknown = [event for _, _, event in newest if (event, requester.user_nid) not in self._removed]
        if unknown:
            for event, persisted in (await self._events.load(unknown)).items():
                self._removed[event, requester.user_nid] = _removes(persisted, requester.user_id)
            while len(self._removed) > CACHED:
                self._removed.popitem(last=False)
        return frozenset(nid for _, nid, event in newest if self._removed.get((event, requester.user_nid)))

    async def _spaces(self, requester: Requester, named: Collection[str]) -> dict[str, frozenset[str]]:
        """Rooms in those of the spaces that the user is in."""
        found: dict[str, frozenset[str]] = {}
        for space in named:
            identity = await self._interning.room(RoomId(space))
            if identity is None:
                continue
            room = await self._rooms.get(identity.nid)
            if requester.user_nid in room.local_joined:
                found[space] = await self._in_space(room)
        return found

    async def _in_space(self, room: Room) -> frozenset[str]:
        key = (room.name.nid, room.room_state.nid)
        children = self._children.get(key)
        if children is None:
            nids = [at for (kind, _), at in room.state.items() if kind == CHILD][:MAX_CHILDREN]
            loaded = await self._events.load(nids)
            children = frozenset(
                each.event.key[1] for each in loaded.values() if each.event.key and _is_child(each)
            )
            self._children[key] = children
            if len(self._children) > 1_000:
                self._children.popitem(last=False)
        return children


def _is_child(persisted: PersistedEvent) -> bool:
    """spec: client-server-api/#mspacechild: without `via` it is none"""
    return isinstance(persisted.event.content.get("via"), list)


def _removes(persisted: PersistedEvent, user_id: UserId) -> bool:
    return persisted.event.sender != user_id and ends_stay(persisted, user_id)


def _listed(
    user: UserRooms, unwanted: Unwanted, removed: frozenset[int], told: Collection[int]
) -> Mapping[int, Membership]:
    """Rooms that lists may have: those one left oneself only to say so to who was told of them."""
    if len(user.joined) == len(user.rooms):
        return user.rooms
    found: dict[int, Membership] = {}
    for nid, own in user.rooms.items():
        if own.membership in (LEAVE, BAN):
            if nid not in told and nid not in removed:
                continue
        elif own.membership == INVITE and unwanted.all_invites:
            continue
        if not own.forgotten:
            found[nid] = own
    return found
