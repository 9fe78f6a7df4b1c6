"""Room aliases: names of rooms on this server.

spec: client-server-api/#room-aliases (ROOM-10, ROOM-12)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from psycopg.errors import UniqueViolation

from homeserver.events.auth_rules.power import can_send
from homeserver.events.builder import EventDraft
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import GraphWriter, Send
from homeserver.log.entries import Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound, Unknown
from homeserver.matrix.ids import RoomAlias, RoomId, ServerName, domain_of, is_room_alias, is_room_id
from homeserver.policy.gate import Gate
from homeserver.policy.passages import system_passage
from homeserver.policy.types import alias_act
from homeserver.rooms import store
from homeserver.rooms.canonical_alias import CANONICAL_ALIAS, without
from homeserver.rooms.entries import AliasesChanged
from homeserver.rooms.ports import LocatedRoom, RemoteAliases, ReservedAliases, UnknownAliases
from homeserver.rooms.servers import servers_in
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester


class AliasTaken(Unknown):
    """spec: setRoomAlias: 409 with M_UNKNOWN"""

    status = 409


class AliasService:
    """Aliases of this server, and through a port those of others."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        graph: GraphWriter,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        log: LogWriter,
        *,
        gate: Gate,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._graph = graph
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._log = log
        self._gate = gate
        self.server_name = server_name
        self._remote: RemoteAliases | None = None
        self._reserved: ReservedAliases | None = None
        self._unknown: UnknownAliases | None = None

    def ask_with(self, remote: RemoteAliases) -> None:
        """Who asks other servers for their aliases."""
        self._remote = remote

    def reserve_with(self, reserved: ReservedAliases) -> None:
        """Plug in who says to whom aliases belong."""
        self._reserved = reserved

    def ask_here_with(self, unknown: UnknownAliases) -> None:
        """Plug in who is asked for aliases of this server that are not here."""
        self._unknown = unknown

    async def resolve(self, room_id_or_alias: str) -> RoomId:
        """The room an id or alias names. Raises as `locate`."""
        return (await self.locate(room_id_or_alias)).room_id

    async def locate(self, room_id_or_alias: str) -> LocatedRoom:
        """The room an id or alias names, and which servers may know it: for an id none.

        Raises `InvalidParam`, `NotFound`; `Unavailable` (502) where an alias is another server's that cannot be asked.
        """
        if is_room_id(room_id_or_alias):
            return LocatedRoom(RoomId(room_id_or_alias), ())
        if not is_room_alias(room_id_or_alias):
            raise InvalidParam("roomIdOrAlias: neither a room ID nor an alias")
        alias = RoomAlias(room_id_or_alias)
        if domain_of(alias) == self.server_name:
            return await self.local(alias)
        if self._remote is None:
            raise NotFound("There is no such alias")
        return await self._remote.locate(alias)

    async def local(self, alias: RoomAlias) -> LocatedRoom:
        """What an alias of this server names, and some servers that are in the room, this one first. Raises `NotFound`."""
        found = await self._find(alias)
        if found is None and self._unknown is not None and await self._unknown.alias(alias):
            found = await self._find(alias)
        if found is None:
            raise NotFound("There is no such alias")
        room = await self._rooms.get(found[0])
        return LocatedRoom(room.name.room_id, servers_in(room, self.server_name))

    async def _find(self, alias: RoomAlias) -> tuple[int, int] | None:
        async with self._db.read() as tx:
            return await store.find_alias(tx, alias)

    async def put(self, requester: Requester, alias: RoomAlias, room_id: RoomId) -> None:
        """Give a room another name. Raises `InvalidParam`, `AliasTaken`, `NotFound`, `Forbidden`."""
        self._check(alias)
        if domain_of(alias) != self.server_name:
            raise InvalidParam("roomAlias: not an alias of this server")
        await self._gate.admit(requester, alias_act(requester, alias, room_id))
        room = await self._rooms.by_id(room_id)
        if not self._may_name(requester, room):
            raise Forbidden("You are not in this room")
        if room is None:
            raise NotFound("There is no such room")
        if await self._find(alias) is not None:
            raise AliasTaken("The alias is taken")
        room_nid = room.name.nid

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.add_alias(batch, alias, room_nid, requester.user_nid)

        try:
            await self._log.append(AliasesChanged(room_nid), alongside=write)
        except UniqueViolation as clash:
            if clash.diag.constraint_name != store.ONE_ROOM_PER_ALIAS:
                raise
            raise AliasTaken("The alias is taken") from clash

    async def delete(self, requester: Requester, alias: RoomAlias) -> None:
        """Take a name away: one's own, or any of a room where one may set m.room.canonical_alias. Who may also takes it
        out of that event.

        Raises `NotFound`, `Forbidden`, `Exclusive` for one that belongs to an application service.
        """
        self._check(alias)
        found = await self._find(alias)
        if found is None:
            raise NotFound("There is no such alias")
        if self._reserved is not None and not requester.is_admin:
            refusal = self._reserved.refusal(requester, alias)
            if refusal is not None:
                raise refusal
        room_nid, creator_nid = found
        room = await self._rooms.get(room_nid)
        if (
            creator_nid != requester.user_nid
            and not requester.is_admin
            and not await self._may_manage(requester, room)
        ):
            raise Forbidden("You may not remove this alias")

        def erase(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.remove_alias(batch, alias)

        await self._log.append(AliasesChanged(room_nid), alongside=erase)

        def plan(head: Head) -> Sequence[Send]:
            persisted = head.persisted(CANONICAL_ALIAS)
            content = without(persisted.event.content, alias) if persisted else None
            return [] if content is None else [Send(EventDraft(*CANONICAL_ALIAS, requester.user_id, content))]

        # spec: op:deleteRoomAlias: the alias goes even if its user may not change the event
        with contextlib.suppress(Forbidden):
            await self._graph.append(
                room_nid, plan, system_passage("an alias was removed", requester.user_nid)
            )

    async def aliases_of(self, room: Room) -> list[RoomAlias]:
        """Aliases of this server that point to the room."""
        async with self._db.read() as tx:
            return await store.find_aliases(tx, room.name.nid)

    def _may_name(self, requester: Requester, room: Room | None) -> bool:
        """Otherwise anybody could name private rooms, and learn which ids are rooms here. A bridge names rooms for others."""
        if requester.is_admin or requester.appservice_id is not None:
            return True
        return room is not None and room.membership(requester.user_id) == JOIN

    async def _may_manage(self, requester: Requester, room: Room) -> bool:
        keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", requester.user_id)]
        loaded = await self._events.load([room.state[key] for key in keys if key in room.state])
        state = {persisted.event.key: persisted.event for persisted in loaded.values() if persisted.event.key}
        member = state.get(keys[2])
        return (
            member is not None
            and member.membership == "join"
            and can_send(state, requester.user_id, "m.room.canonical_alias", room.name.version, is_state=True)
        )

    def _check(self, alias: RoomAlias) -> None:
        if not is_room_alias(alias):
            raise InvalidParam("roomAlias: not a room alias")
