"""Rooms one is not in yet: invites and knocks, with stripped state.

spec: client-server-api/#stripped-state (FILT-08, SYNC-13, SYNC-15)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from homeserver.events.client_format import stripped
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER
from homeserver.graph.state.states import StateStore
from homeserver.matrix import json
from homeserver.matrix.ids import is_user_id
from homeserver.storage.database import Database
from homeserver.sync.selection import store
from homeserver.sync.selection.classify import Classified
from homeserver.sync.types import SyncRequest

SHOWN: tuple[StateKey, ...] = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.avatar", ""),
    ("m.room.topic", ""),
    ("m.room.join_rules", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.encryption", ""),
)
MEMBER = "m.room.member"
MAX_HEROES = 5
MAX_ROOMS = 500
"""Invites in one answer; the newest count."""


class StrippedRoom(NamedTuple):
    """A room the viewer is not in yet."""

    member: PersistedEvent
    """The invite or knock."""
    state: list[bytes]
    """Stripped state events, as JSON; the last one is `member`."""


class StrippedRooms:
    """Selects the stripped state of invites and knocks. Keeps nothing in memory."""

    def __init__(self, db: Database, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._events = events
        self._states = states
        self._interning = interning

    async def of(self, request: SyncRequest, kinds: Classified) -> dict[int, StrippedRoom]:
        """room_nid -> what is shown of it, as before the invite or knock; invites first. At most five queries."""
        nids = [*kinds.invited, *kinds.knocked]
        if not nids:
            return {}
        nids = sorted(nids, key=lambda room: request.memberships[room].position, reverse=True)[:MAX_ROOMS]
        found = await self._events.load([request.memberships[room].event_nid for room in nids])
        members = {room: found[at] for room in nids if (at := request.memberships[room].event_nid) in found}
        # spec: #ignoring-users, #invite-permission: these invites are not sent (SYNC-15)
        unwanted = set(kinds.invited) if request.unwanted.all_invites else set()
        members = {
            room: persisted
            for room, persisted in members.items()
            if room not in unwanted and persisted.event.sender not in request.ignored
        }
        keys = {(MEMBER, persisted.event.sender) for persisted in members.values()}
        numbers = await self._interning.find_key_nids([*SHOWN, *keys])
        states = await self._states.values(
            {persisted.state_before.nid for persisted in members.values()}, list(numbers.values())
        )
        loaded = await self._events.load({nid for state in states.values() for nid in state.values()})
        told = await told_elsewhere(
            self._db, {member.nid for member in members.values() if member.flags & OUTLIER}
        )
        rooms: dict[int, StrippedRoom] = {}
        for room, member in members.items():
            own = stripped(member.event)
            if member.flags & OUTLIER:
                rooms[room] = StrippedRoom(member, [*told.get(member.nid, ()), own])
                continue
            state = states[member.state_before.nid]
            wanted = [*SHOWN, (MEMBER, member.event.sender)]
            shown = [loaded[state[numbers[key]]] for key in wanted if numbers.get(key, 0) in state]
            rooms[room] = StrippedRoom(
                member,
                [*(stripped(each.event) for each in shown if each.event.key != member.event.key), own],
            )
        return rooms


async def told_elsewhere(db: Database, event_nids: Collection[int]) -> dict[int, list[msgspec.Raw]]:
    """What other servers have told of rooms that this server is not in, by the invite or knock: stripped state events."""
    if not event_nids:
        return {}
    async with db.read() as tx:
        rows = await store.find_stripped_states(tx, event_nids)
    return {nid: _decode_list(events) for nid, events in rows}


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def described(room: StrippedRoom) -> dict[str, bytes]:
    """`name`, `avatar` and, of a room without a name, `heroes` of sliding sync, as far as the stripped state tells; JSON."""
    names: dict[str, str] = {}
    heroes: list[bytes] = []
    own = room.member.event.key
    for entry in room.state:
        event = _decode_stripped(entry)
        member = {"m.room.name": "name", "m.room.avatar": "url"}.get(event.type)
        value = event.content.get(member) if member is not None and event.state_key == "" else None
        if isinstance(value, str) and value:
            names[event.type] = value
        elif event.type == MEMBER and (MEMBER, event.state_key) != own and is_user_id(event.state_key):
            heroes.append(_hero(event))
    found = {}
    if "m.room.name" in names:
        found["name"] = json.dumps(names["m.room.name"])
    elif heroes:
        found["heroes"] = b"[%b]" % b",".join(heroes[:MAX_HEROES])
    if "m.room.avatar" in names:
        found["avatar"] = json.dumps(names["m.room.avatar"])
    return found


class _Stripped(msgspec.Struct):
    type: str
    state_key: str
    content: dict[str, object]


_decode_stripped = msgspec.json.Decoder(_Stripped).decode


def _hero(event: _Stripped) -> bytes:
    told = {
        key: value
        for key in ("displayname", "avatar_url")
        if isinstance(value := event.content.get(key), str)
    }
    return json.dumps({"user_id": event.state_key, **told})
