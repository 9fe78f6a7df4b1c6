"""Rooms one is not in yet: invites and knocks, with stripped state.

spec: client-server-api/#stripped-state (FILT-08, SYNC-13, SYNC-15)
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.state.states import StateStore
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
MAX_ROOMS = 500
"""Invites in one answer; the newest count."""


class StrippedRoom(NamedTuple):
    """A room the viewer is not in yet."""

    member: PersistedEvent
    """The invite or knock."""
    state: list[PersistedEvent]
    """To be told in stripped form; the last one is `member`."""


class StrippedRooms:
    """Selects the stripped state of invites and knocks. Keeps nothing in memory."""

    def __init__(self, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._events = events
        self._states = states
        self._interning = interning

    async def of(self, request: SyncRequest, kinds: Classified) -> dict[int, StrippedRoom]:
        """room_nid -> what is shown of it, as before the invite or knock; invites first. At most four queries."""
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
        rooms: dict[int, StrippedRoom] = {}
        for room, member in members.items():
            state = states[member.state_before.nid]
            wanted = [*SHOWN, (MEMBER, member.event.sender)]
            shown = [loaded[state[numbers[key]]] for key in wanted if numbers.get(key, 0) in state]
            rooms[room] = StrippedRoom(
                member, [*(each for each in shown if each.event.key != member.event.key), member]
            )
        return rooms
