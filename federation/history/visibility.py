"""Which events the users of a server could see: the history's visibility then, and what its users were then and later.

spec: server-server-api/#retrieving-events, client-server-api/#room-history-visibility (CHECKLIST HV-05)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from homeserver.events.event import StateKey
from homeserver.events.visibility import (
    SHARED,
    WORLD_READABLE,
    ServerStage,
    history_visibility_of,
    is_visible_to_server,
)
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.numbers import newest_of_keys
from homeserver.graph.read.visibility import HISTORY_VISIBILITY
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.storage.database import Database

MAX_USERS: Final = 500
"""Users of a server that are looked at, those who are in the room first. What none of them could see is not told."""
MAX_MEMBERSHIPS: Final = 100
"""Of a server that has left: its users' newest membership events, in which the last join is looked for."""
MEMBER: Final = "m.room.member"


class VisibilityToServers:
    """Tells which of some events users of a server could see. Keeps nothing in memory."""

    def __init__(self, db: Database, interning: Interning, events: EventCache, states: StateStore) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._states = states

    async def visible(
        self, server_name: ServerName, room: Room, events: Sequence[PersistedEvent]
    ) -> Collection[int]:
        """See `ports.ServerVisibility`. At most six queries."""
        if not events:
            return ()
        users = _users_of(room, server_name)
        joined = any(room.members[user].membership == JOIN for user in users)
        settings = await self._settings({each.state_before.nid for each in events})
        open_to_members = {nid for nid, value in settings.items() if value in (SHARED, WORLD_READABLE)}
        unsure = [
            each
            for each in events  # spec: MSC4354: what is sticky is told to servers in the room in any case
            if not (joined and (each.sticky_until or each.state_before.nid in open_to_members))
        ]
        seen = {each.nid for each in events} - {each.nid for each in unsure}
        if not unsure:
            return seen
        keys = await self._interning.find_key_nids([(MEMBER, user) for user in users])
        at = await self._memberships({each.state_before.nid for each in unsure}, keys)
        last_join = 0 if joined else await self._last_join(room, keys)
        for each in unsure:
            state = each.state_before.nid
            stage = ServerStage(settings[state], at[state])
            later = joined or last_join > each.nid
            if is_visible_to_server(each.event, stage, server_name, joined_later=later):
                seen.add(each.nid)
        return seen

    async def _settings(self, state_nids: Collection[int]) -> dict[int, str]:
        """State -> the history's visibility in it."""
        keys = await self._interning.find_key_nids([HISTORY_VISIBILITY])
        values = await self._states.values(state_nids, list(keys.values()))
        loaded = await self._events.load({nid for state in values.values() for nid in state.values()})
        found = {}
        for state_nid, state in values.items():
            persisted = loaded.get(next(iter(state.values()), 0))
            found[state_nid] = history_visibility_of(persisted.event if persisted is not None else None)
        return found

    async def _memberships(
        self, state_nids: Collection[int], keys: Mapping[StateKey, int]
    ) -> dict[int, frozenset[str]]:
        """State -> every membership that one of these users has in it."""
        values = await self._states.values(state_nids, list(keys.values()))
        loaded = await self._events.load({nid for state in values.values() for nid in state.values()})
        return {
            state_nid: frozenset(
                loaded[nid].event.membership or "leave" for nid in state.values() if nid in loaded
            )
            for state_nid, state in values.items()
        }

    async def _last_join(self, room: Room, keys: Mapping[StateKey, int]) -> int:
        """Number of the event with which one of these users joined last; 0 if there is none."""
        async with self._db.read() as tx:
            nids = await newest_of_keys(tx, room.name.nid, list(keys.values()), MAX_MEMBERSHIPS)
        loaded = await self._events.load(nids)
        return next((nid for nid in nids if nid in loaded and loaded[nid].event.membership == "join"), 0)


def _users_of(room: Room, server_name: ServerName) -> list[UserId]:
    users = [user for user in room.members if domain_of(user) == server_name]
    users.sort(key=lambda user: room.members[user].membership != JOIN)
    return users[:MAX_USERS]
