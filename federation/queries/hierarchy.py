"""A room and the rooms right under it, as another server may know them.

spec: server-server-api/#spaces (CHECKLIST FED-38)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from federation.ports import Partners
from homeserver.directory.summaries import may_enter
from homeserver.graph.read.page_size import PAGE_BYTES
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomId, ServerName, domain_of
from homeserver.spaces.local_rooms import CHILD_BYTES, LocalRoom, LocalRooms
from homeserver.spaces.types import Branch, SpaceRoom

MAX_CHILDREN: Final = 200
"""Children that are told of, the first of their order; of others the server asks by themselves."""


class HierarchyForServers:
    """Answers for other servers, from what is here. Keeps nothing in memory."""

    def __init__(self, rooms: LocalRooms, partners: Partners) -> None:
        self._rooms = rooms
        self._partners = partners

    async def branch(self, server_name: ServerName, room_id: RoomId, *, suggested_only: bool) -> Branch:
        """Raises `NotFound` for a room that is not here, or that no user of the server could join or read."""
        found = await self._rooms.find([room_id], suggested_only=suggested_only)
        root = _alive(found.get(room_id))
        reader = _Reader(server_name)
        await reader.look_at(self._rooms, [root] if root is not None else [])
        if root is None or not reader.sees(root) or not await self._partners.may_share(server_name, room_id):
            raise NotFound("There is no such room")
        wanted = [
            child.room_id
            for child in root.children[:MAX_CHILDREN]
            if child.room_id != room_id and await self._partners.may_share(server_name, child.room_id)
        ]
        children = await self._rooms.find(wanted, suggested_only=suggested_only)
        known = [each for child in wanted if (each := _alive(children.get(child))) is not None]
        await reader.look_at(self._rooms, known)
        shown: list[SpaceRoom] = []
        hidden: list[RoomId] = []
        left = PAGE_BYTES - _size(root.shown)
        for each in known:
            if not reader.sees(each):
                hidden.append(each.shown.room_id)
                continue
            left -= _size(each.shown)
            if left >= 0:
                shown.append(each.shown)
        return Branch(root.shown, shown, hidden)


class _Reader:
    """A server that looks at rooms: its users as a whole."""

    def __init__(self, server_name: ServerName) -> None:
        self._server_name = server_name
        self._allowed: dict[RoomId, Room] = {}

    async def look_at(self, rooms: LocalRooms, found: Iterable[LocalRoom]) -> None:
        """Load the rooms whose members may join these."""
        named = {room_id for each in found for room_id in each.shown.allowed_room_ids}
        self._allowed |= await rooms.load(named - self._allowed.keys())

    def sees(self, found: LocalRoom) -> bool:
        if may_enter(found.shown, 0, self._is_in):
            return True
        return self._membership(found.room) != 0

    def _is_in(self, room_ids: Collection[RoomId]) -> bool:
        rooms = (self._allowed[room_id] for room_id in room_ids if room_id in self._allowed)
        return any(self._membership(room) == JOIN for room in rooms)

    def _membership(self, room: Room) -> int:
        """JOIN if a user of the server is in the room, INVITE if one is invited; 0."""
        best = 0
        for user_id, member in room.members.items():
            if member.membership in (JOIN, INVITE) and domain_of(user_id) == self._server_name:
                if member.membership == JOIN:
                    return JOIN
                best = INVITE
        return best


def _alive(found: LocalRoom | None) -> LocalRoom | None:
    """What is known of a room that everybody here has left is not to be told."""
    return found if found is not None and found.room.local_joined else None


def _size(room: SpaceRoom) -> int:
    return 1_000 + sum(len(bytes(child.content)) + CHILD_BYTES for child in room.children_state)
