"""Projection: which other servers are in each room, now and at a past event.

Held in memory for the rooms in which our users speak; an event is told to the servers that were in the room before it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import structlog

from federation.outbound import store
from federation.ports import Partners
from homeserver.graph.entry import ADOPTS, EventEntry, StateChange, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.state.rows import BrokenState
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed, Tail
from homeserver.matrix.ids import ServerName, domain_of
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

Servers = frozenset[str]
NOBODY: Final[Servers] = frozenset()

SHARE = 1.0
ROOM_BYTES, MEMBER_BYTES, SERVER_BYTES = 600, 120, 200
"""What a room in memory takes, each remote user in it, and each of their servers."""
STATE_SHARE = 0.2
MAX_PERMITTED: Final = 5_000
"""Rooms of which it is remembered which servers may share them."""
MAX_PAST: Final = 200
"""Comings and goings of servers that are remembered for a room."""


class _Permitted(NamedTuple):
    """Which servers of a room are told of it, as the configuration of a moment said."""

    generation: int
    servers: Servers
    told: Servers


class RoomServers:
    """Knows the servers of rooms from memory; loads a room when it is first asked for, and drops those not used lately."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        tail: Tail,
        rooms: Rooms,
        events: EventCache,
        states: StateStore,
        memory: MemoryBudget,
        server_name: ServerName,
        partners: Partners,
    ) -> None:
        self._partners = partners
        self._permitted: OrderedDict[int, _Permitted] = OrderedDict()
        self._server_name = server_name
        self._db = db
        self._tail = tail
        self._graph = rooms
        self._events = events
        self._states = states
        self._rooms: Cache[int, _Room] = memory.cache("room_servers", SHARE)
        self._at_states: Cache[int, Servers] = memory.cache("room_servers_at", STATE_SHARE)
        """state_nid -> servers in that state."""

    # --- reading -----------------------------------------------------------------------------------------------------

    async def now(self, room_nid: int) -> Servers:
        """The other servers with a joined user, as of `tail.position` or later; those alone that may share the room with us."""
        return await self._told(room_nid, await self.joined(room_nid))

    async def joined(self, room_nid: int) -> Servers:
        """As `now`, those too that are told nothing."""
        return (await self._room(room_nid)).servers

    async def before(self, persisted: PersistedEvent) -> Servers:
        """The other servers with a joined user in the state before an event of the log; those alone that may share the room."""
        return await self._told(persisted.room_nid, await self._joined_before(persisted))

    async def was_told(self, join: PersistedEvent) -> bool:
        """Whether another server took a join of one of ours, and the room came with it."""
        async with self._db.read() as tx:
            return await store.came_with_room(tx, join.room_nid, join.nid)

    async def _told(self, room_nid: int, servers: Servers) -> Servers:
        """Those of the servers that may share the room."""
        if not servers or not self._partners.restricts_rooms:
            return servers
        known = self._permitted.get(room_nid)
        generation = self._partners.generation
        if known is not None and known.generation == generation and known.servers == servers:
            return known.told
        room_id = (await self._graph.get(room_nid)).name.room_id
        told = frozenset(await self._partners.sharing([ServerName(each) for each in servers], room_id))
        self._permitted[room_nid] = _Permitted(generation, servers, told)
        self._permitted.move_to_end(room_nid)
        if len(self._permitted) > MAX_PERMITTED:
            self._permitted.popitem(last=False)
        return told

    async def _joined_before(self, persisted: PersistedEvent) -> Servers:
        """The other servers with a joined user in the state before an event of the log.

        From memory for what was written since the room came into memory; otherwise what has changed since is looked at.
        """
        room = await self._room(persisted.room_nid)
        if persisted.nid > room.floor:
            return room.before(persisted.nid)
        state_nid = persisted.state_before.nid
        graph = self._graph.cached(persisted.room_nid)
        if graph is not None and graph.room_state.nid == state_nid:
            return room.servers
        known = self._at_states.get(state_nid)
        if known is None:
            try:
                known = await self._compute(persisted.room_nid, state_nid)
            except BrokenState:
                log.exception("federation.servers_unknown", event=persisted.event.event_id)
                return room.servers
            self._at_states.put(state_nid, known, ROOM_BYTES + SERVER_BYTES * len(known))
        return known

    async def _compute(self, room_nid: int, state_nid: int) -> Servers:
        await self._graph.get(room_nid)
        room = await self._room(room_nid)
        graph = await self._graph.get(room_nid)
        # From here on nothing is awaited until both have been looked at: they are of one moment.
        counts, now = Counter(room.counts), graph.room_state.nid
        changed = await self._states.difference(state_nid, now)
        events = await self._events.load({nid for each in changed.values() for nid in each if nid})
        for difference in changed.values():
            for nid, by in ((difference.after, -1), (difference.before, 1)):
                found = events.get(nid)
                if found is not None and found.event.membership == "join":
                    counts[domain_of(found.event.state_key or "")] += by
        return frozenset(server for server, count in counts.items() if count > 0) - {self._server_name}

    # --- the projection ----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        """See `Projection.handlers`."""
        return {EventEntry: Narrowed(self._event, touches_state)}

    def reset(self) -> None:
        """See `Projection.reset`."""
        self._rooms.clear()

    def _event(self, position: Position, entry: EventEntry) -> None:
        if entry.place == ADOPTS:  # most of what has changed stands in the database alone
            self._rooms.pop(entry.persisted.room_nid)
            return
        room = self._rooms.get(entry.persisted.room_nid) if entry.changes else None
        if room is not None:
            room.apply(position, entry.changes)
            self._rooms.resize(entry.persisted.room_nid, room.size)

    async def _room(self, room_nid: int) -> _Room:
        found = self._rooms.get(room_nid)
        if found is not None:
            return found
        graph = self._graph.cached(room_nid)
        if graph is not None:
            remote = (
                (m.user_nid, user)
                for user, m in graph.members.items()
                if m.membership == JOIN and not m.local
            )
            room = _Room(self._tail.position, remote)
        else:
            room = await self._load(room_nid)
        self._rooms.put(room_nid, room, room.size)
        return room

    async def _load(self, room_nid: int) -> _Room:
        while True:
            async with self._db.snapshot() as tx:
                position, members = await store.read_remote_members(tx, room_nid, self._server_name)
            if position < self._tail.floor:
                continue  # the tail has lost what came after
            room = _Room(position, members)
            later = [
                (at, entry)
                for at, entry in (self._tail.since(position) if position < self._tail.position else ())
                if isinstance(entry, EventEntry) and entry.persisted.room_nid == room_nid
            ]
            if any(entry.place == ADOPTS for _, entry in later):
                continue
            for at, entry in later:
                room.apply(at, entry.changes)
            return room


class _Room:
    """The remote members of one room."""

    __slots__ = ("counts", "floor", "joined", "past", "position", "servers")

    def __init__(self, position: Position, members: Iterable[tuple[int, str]]) -> None:
        self.position = self.floor = position
        """`floor`: what was before an event after this is known."""
        names: dict[str, str] = {}
        self.joined = {nid: names.setdefault(name := domain_of(user), name) for nid, user in members}
        self.counts = Counter(self.joined.values())
        self.servers: Servers = frozenset(self.counts)
        self.past: deque[tuple[Position, str, bool]] = deque()
        """(where, which server, whether it came), oldest first."""

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return (
            ROOM_BYTES + MEMBER_BYTES * len(self.joined) + SERVER_BYTES * (len(self.counts) + len(self.past))
        )

    def before(self, position: Position) -> Servers:
        """Just before an event after `floor`."""
        if not self.past or self.past[-1][0] < position:
            return self.servers
        servers = set(self.servers)
        for at, server, came in reversed(self.past):
            if at < position:
                break
            (servers.discard if came else servers.add)(server)
        return frozenset(servers)

    def apply(self, position: Position, changes: Iterable[StateChange]) -> None:
        """An event is committed that changes the room's state."""
        if position <= self.position:
            return
        self.position = position
        for change in changes:
            if change.user_nid is None or change.local:
                continue
            is_in = change.ref is not None and change.membership == JOIN
            if is_in != (change.user_nid in self.joined):
                self._change(position, change.user_nid, domain_of(change.key[1]), came=is_in)

    def _change(self, position: Position, user_nid: int, server: ServerName, *, came: bool) -> None:
        if came:
            self.joined[user_nid] = server
            self.counts[server] += 1
        else:
            del self.joined[user_nid]
            self.counts[server] -= 1
        if self.counts[server] == (1 if came else 0):
            if not came:
                del self.counts[server]
            self.servers = frozenset(self.counts)
            self.past.append((position, server, came))
            if len(self.past) > MAX_PAST:
                self.floor = self.past.popleft()[0]
