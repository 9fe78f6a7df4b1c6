"""The head of a room as a plan sees it: committed state with everything in flight. Synchronous: what is not in memory is
asked for by raising `NotReady`, loaded outside, and the plan runs again.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.events.event import Event, StateKey
from homeserver.graph.events import EventCache
from homeserver.graph.interning import Interning, RoomName
from homeserver.graph.refs import MEMBERSHIP_NAMES
from homeserver.graph.room import Room
from homeserver.graph.stored import Stored
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
    def name(self) -> RoomName:
        return self._room.name

    @property
    def room(self) -> Room:
        """The committed room."""
        return self._room

    def stored(self, key: StateKey) -> Stored | None:
        """The current state event at a key. Raises `NotReady`."""
        value = self._room.head_value(key)
        if not isinstance(value, int):
            return value
        stored = self._events.get(value)
        if stored is None:
            raise NotReady(events=[value])
        return stored

    def event(self, key: StateKey) -> Event | None:
        """The current state event at a key. Raises `NotReady`."""
        stored = self.stored(key)
        return stored.event if stored else None

    def state(self, keys: Iterable[StateKey]) -> dict[StateKey, Event]:
        """Those of the keys that are set. Raises `NotReady` naming all that are missing at once."""
        found: dict[StateKey, Event] = {}
        missing: list[int] = []
        for key in keys:
            value = self._room.head_value(key)
            stored = self._events.get(value) if isinstance(value, int) else value
            if stored is not None:
                found[key] = stored.event
            elif isinstance(value, int):
                missing.append(value)
        if missing:
            raise NotReady(events=missing)
        return found

    def membership(self, user_id: UserId) -> str | None:
        """The user's membership with everything in flight; None if never here."""
        value = self._room.head_value(("m.room.member", user_id))
        if isinstance(value, Stored):
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
