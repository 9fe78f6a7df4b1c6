"""Memberships of our users in rooms that this server is not in: invites, knocks, and how they end.

Such a room has a number and a row, but no events that anything could be built on. A membership is an outlier in the log, and part
of the room's current state; beside it stands what the other server has told of the room (stripped state).
spec: server-server-api/#inviting-to-a-room, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import IntegrityError

from homeserver.events.event import Event
from homeserver.events.push_facts import facts_of
from homeserver.events.room_version import RoomVersion
from homeserver.graph.entry import BESIDE, EventEntry, StateChange
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent, Replaced
from homeserver.graph.refs import EMPTY_STATE, MEMBERSHIPS, OUTLIER, EventRef
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write import adopt_store as store
from homeserver.log.entries import Append, Conflict, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.policy.passages import Passage
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

MEMBER = "m.room.member"
MAX_TRIES = 20


class StrippedEvent(msgspec.Struct, frozen=True):
    """A stripped state event. spec: client-server-api/#stripped-state"""

    type: str
    state_key: str
    sender: UserId
    content: dict[str, Any]


_decode_stripped = msgspec.json.Decoder(list[StrippedEvent]).decode


class Unfit(Exception):
    """What another server says of a room cannot be true, or does not let our user in; the text is fit for a log."""


class NotAway(Exception):
    """This server is in the room."""


class MembershipsBeside:
    """Writes memberships of ours in rooms that go on without this server. Keeps nothing in memory."""

    def __init__(
        self, db: Database, log: LogWriter, rooms: Rooms, events: EventCache, interning: Interning
    ) -> None:
        self._db = db
        self._log = log
        self._rooms = rooms
        self._events = events
        self._interning = interning

    async def identity(self, room_id: RoomId, version: RoomVersion) -> RoomIdentity:
        """The number of a room, given to it now if it has none, with this version.

        What the first server that invites says of a room's version need not be true: as long as this server has not been in it,
        another one may be said, which counts when somebody joins. Raises `Unfit` otherwise, and if no room of the version has
        such an id.
        """
        if version.room_id_is_create_hash is not (":" not in room_id):
            raise Unfit(f"no room of version {version.id} has such an ID")
        known = await self._interning.room(room_id)
        if known is None:
            new = RoomIdentity(await self._interning.new_room_nid(), room_id, version)
            async with self._db.transaction() as tx:
                await store.insert_room(tx, new)
            known = await self._interning.room(room_id)
            assert known is not None
        if known.version.id == version.id:
            return known
        room = await self._rooms.get(known.nid)
        if room.extremities or known.version.hash_ids is not version.hash_ids:
            raise Unfit(f"the room has version {known.version.id}, not {version.id}")
        return RoomIdentity(known.nid, room_id, version)

    async def put(
        self,
        event: Event,
        passage: Passage,
        stripped: Sequence[bytes] | None = None,
        servers: Sequence[ServerName] = (),
    ) -> PersistedEvent:
        """Make a membership event of one of our users their membership in its room; nothing if it is here already.

        `stripped`: what is told of the room with an invite or a knock: JSON of stripped state events, without the membership;
        `servers`: who has told it, and may be asked when it is answered or taken back.
        Raises `NotAway`, `Unfit` (another version of the room is known), `Unavailable`.
        """
        name = await self.identity(event.room_id, event.room_version)
        for _ in range(MAX_TRIES):
            room = await self._rooms.latest(name.nid)
            if not room.away:
                raise NotAway
            known = await self._events.by_id(event.event_id)
            if known is not None:
                return known
            entry = await self._entry(room, event)

            def alongside(batch: Pipeline, written: Sequence[Written[Any]]) -> None:
                if stripped is not None:
                    events = b"[%b]" % b",".join(stripped)
                    store.put_stripped_state(batch, written[0].position, events, servers)

            try:
                await self._log.add(Append([entry], None, alongside, passage))
            except (Conflict, IntegrityError):  # it has come twice at once, or somebody has just joined
                continue
            return entry.persisted
        raise Unavailable("The room is too busy, try again")

    async def servers(self, event_nid: int) -> list[ServerName]:
        """Who has told of the room with an invite or a knock."""
        async with self._db.read() as tx:
            return (await store.find_told(tx, event_nid))[1]

    async def told(self, event_nid: int) -> list[StrippedEvent]:
        """What was told of the room with an invite or a knock."""
        async with self._db.read() as tx:
            events, _ = await store.find_told(tx, event_nid)
        return _decode_stripped(events)

    async def _entry(self, room: Room, event: Event) -> EventEntry:
        assert event.key is not None
        user_id = UserId(event.key[1])
        nids = await self._interning.user_nids([event.sender, user_id])
        key_nid = (await self._interning.key_nids([event.key]))[event.key]
        before = await self._events.one(room.state[event.key]) if event.key in room.state else None
        ref = EventRef(event.event_id, 0, event.depth)
        persisted = PersistedEvent(
            event,
            ref,
            room_nid=room.name.nid,
            sender_nid=nids[event.sender],
            state_before=EMPTY_STATE,
            flags=OUTLIER,
            replaced=replaced_by(before),
            facts=facts_of(event, member_count=0, levels=None, thread=None, mentions=()),
        )
        membership = MEMBERSHIPS.get(event.membership or "")
        return EventEntry(
            persisted=persisted,
            base=room.extremities,
            extremities=room.extremities,
            room_state=room.room_state,
            changes=(StateChange(event.key, key_nid, ref, nids[user_id], membership, local=True),),
            key_nid=key_nid,
            replaces=before.ref if before is not None else None,
            place=BESIDE,
        )


def replaced_by(before: PersistedEvent | None) -> Replaced | None:
    """What a state event replaces, as it is kept with it."""
    if before is None:
        return None
    event = before.event
    return Replaced(before.ref, event.event_id, event.sender, event.content_json)
