"""The head of a room as a plan sees it: committed state with everything in flight. Synchronous: what is not in memory is
asked for by raising `NotReady`, loaded outside, and the plan runs again.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.events.event import Event, StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import MEMBERSHIP_NAMES
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import UserId


class NotReady(Exception):
    """Something must be loaded before the plan can go on."""

    def __init__(
        self, *, events: Iterable[int] = (), users: Iterable[UserId] = (), keys: Iterable[StateKey] = ()
    ) -> None:
        super().__init__("not in memory yet")
        self.events = list(events)
        self.users = list(users)
        self.keys = list(keys)


class Head:
    """Read-only view for plans: what the room is, as the next event will see it."""

    def __init__(self, room: Room, events: EventCache) -> None:
        self._room = room
        self._events = events

    @property
    def name(self) -> RoomIdentity:
        return self._room.name

    @property
    def room(self) -> Room:
        """The committed room."""
        return self._room

    def persisted(self, key: StateKey) -> PersistedEvent | None:
        """The current state event at a key. Raises `NotReady`."""
        value = self._room.head_value(key)
        if not isinstance(value, int):
            return value
        persisted = self._events.get(value)
        if persisted is None:
            raise NotReady(events=[value])
        return persisted

    def event(self, key: StateKey) -> Event | None:
        """The current state event at a key. Raises `NotReady`."""
        persisted = self.persisted(key)
        return persisted.event if persisted else None

    def state(self, keys: Iterable[StateKey]) -> dict[StateKey, Event]:
        """Those of the keys that are set. Raises `NotReady` naming all that are missing at once."""
        return {key: persisted.event for key, persisted in self.persisted_state(keys).items()}

    def persisted_state(self, keys: Iterable[StateKey]) -> dict[StateKey, PersistedEvent]:
        """Those of the keys that are set. Raises `NotReady` naming all that are missing at once."""
        values = self._room.head_values(keys)
        nids = [value for value in values.values() if isinstance(value, int)]
        loaded = self._events.in_memory(nids)
        if missing := [nid for nid in nids if nid not in loaded]:
            raise NotReady(events=missing)
        return {key: loaded[value] if isinstance(value, int) else value for key, value in values.items()}

    def membership(self, user_id: UserId) -> str | None:
        """The user's membership with everything in flight; None if never here."""
        value = self._room.head_value(("m.room.member", user_id))
        if isinstance(value, PersistedEvent):
            return value.event.membership
        if value is None:
            return None
        return MEMBERSHIP_NAMES.get(self._room.membership(user_id))

    def is_joined(self, user_id: UserId) -> bool:
        return self.membership(user_id) == "join"


def known_numbers(interning: Interning, users: Iterable[UserId], keys: Iterable[StateKey]) -> None:
    """Raises `NotReady` for users and keys that have no number in memory."""
    new_users = [user for user in users if interning.known_user_nid(user) is None]
    new_keys = [key for key in keys if interning.known_key_nid(key) is None]
    if new_users or new_keys:
        raise NotReady(users=new_users, keys=new_keys)
