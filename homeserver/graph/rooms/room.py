"""One room in memory: its committed state as of a log position, and on top of that the events in flight.

Readers see what is committed. Writers build on the head: the committed room with everything in flight; if something in
flight fails, all of it is dropped, and what was built on it will not fit when it comes to be written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import EMPTY_STATE, INVITE, JOIN, EventRef, StateRef
from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId


class Member(NamedTuple):
    """A user's membership in a room."""

    user_nid: int
    membership: int
    event_nid: int
    local: bool
    since: Position
    """From where on the room says so without a break; of who is joined: that they are, by whatever name."""


class Room:
    """Committed facts as plain attributes; changed by `apply` alone."""

    def __init__(self, name: RoomIdentity, position: Position) -> None:
        self.name = name
        self.position = position
        """Entries up to here are in."""
        self.extremities: tuple[EventRef, ...] = ()
        self.room_state: StateRef = EMPTY_STATE
        self.state: dict[StateKey, int] = {}
        """Current state: key -> event_nid."""
        self.members: dict[UserId, Member] = {}
        self.local_joined: set[int] = set()
        """user_nids of our users who are joined."""
        self.joined_count = 0
        self.invited_count = 0
        self.same_since: Position = position
        """From here on the current state has been what it is; perhaps for longer."""
        self.last_event: Position = 0
        """Position of the newest event."""
        self._flying: deque[EventEntry] = deque()
        self._overlay: dict[StateKey, PersistedEvent | None] = {}

    # --- the head: for writers -----------------------------------------------------------------------------------

    @property
    def head_extremities(self) -> tuple[EventRef, ...]:
        return self._flying[-1].extremities if self._flying else self.extremities

    @property
    def head_state(self) -> StateRef:
        return self._flying[-1].room_state if self._flying else self.room_state

    def head_value(self, key: StateKey) -> PersistedEvent | int | None:
        """The state event at a key with everything in flight: itself if in flight, else its number; None if not set."""
        if key in self._overlay:
            return self._overlay[key]
        return self.state.get(key)

    def head_values(self, keys: Iterable[StateKey]) -> dict[StateKey, PersistedEvent | int]:
        """The same for several keys; those that are set."""
        overlay, state = self._overlay, self.state
        found = {key: overlay[key] if key in overlay else state.get(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    def fly(self, entry: EventEntry) -> None:
        """An event that was built on the head and is about to be appended."""
        self._flying.append(entry)
        for change in entry.changes:
            self._overlay[change.key] = entry.persisted if change.ref is entry.persisted.ref else None

    @property
    def pending(self) -> tuple[EventEntry, ...]:
        """Events in flight, oldest first."""
        return tuple(self._flying)

    def mark(self) -> int:
        """For `back_to`: how much is in flight."""
        return len(self._flying)

    def back_to(self, mark: int) -> None:
        """Take back what was built since `mark` and not appended."""
        if len(self._flying) == mark:
            return
        kept = list(self._flying)[:mark]
        self.drop_flying()
        for entry in kept:
            self.fly(entry)

    def give_up(self, entries: Sequence[EventEntry]) -> None:
        """These failed, so nothing that flies can stand. If they fly no more, what does was built since: it stays."""
        if entries and any(entry is entries[0] for entry in self._flying):
            self.drop_flying()

    def drop_flying(self) -> None:
        """Something in flight failed, or others have written: build again on what is committed."""
        self._flying.clear()
        self._overlay.clear()

    @property
    def idle(self) -> bool:
        return not self._flying

    @property
    def away(self) -> bool:
        """Whether the room goes on without this server: none of ours is in it, and others are, or may be. What is here of its
        state is as old as our last stay; nothing can be built on it.
        """
        if self.local_joined or self._flying:
            return False
        return not self.extremities or self.joined_count > 0

    # --- the projection: for readers -----------------------------------------------------------------------------

    def apply(self, position: Position, entry: EventEntry) -> None:
        """An event is committed."""
        if position <= self.position:
            return
        self.position = position
        if not entry.persisted.hidden:
            self.last_event = position
        same_state = not entry.changes and entry.room_state.nid == self.room_state.nid
        self.extremities = entry.extremities
        self.room_state = entry.room_state
        if entry.changes:
            self.same_since = position
        own = entry.persisted.ref
        for change in entry.changes:
            by_resolution = change.ref is not None and change.ref.event_id != own.event_id
            self.change(change, position if by_resolution else None)
        if self._flying and self._flying[0] is entry:
            self._flying.popleft()
            if not self._flying:
                self._overlay.clear()
        elif self._flying and not (same_state and not self._overlay):
            # What only says something may stand beside what somebody else has said.
            self.drop_flying()

    def change(self, change: StateChange, since: Position | None = None) -> None:
        """One key of the current state takes another value. `since`: from where on; None: from its event on."""
        if change.ref is None:
            self.state.pop(change.key, None)
        else:
            self.state[change.key] = change.ref.nid
        if change.user_nid is not None:
            self._change_member(UserId(change.key[1]), change, since)

    def _change_member(self, user_id: UserId, change: StateChange, since: Position | None) -> None:
        before = self.members.pop(user_id, None)
        if before is not None:
            self._count(before.membership, -1)
            self.local_joined.discard(before.user_nid)
        if change.ref is None or change.membership is None or change.user_nid is None:
            return
        if since is None:
            since = change.ref.nid
        if before is not None and before.membership == change.membership == JOIN:
            since = before.since
        self.members[user_id] = Member(
            change.user_nid, change.membership, change.ref.nid, change.local, since
        )
        self._count(change.membership, 1)
        if change.local and change.membership == JOIN:
            self.local_joined.add(change.user_nid)

    def _count(self, membership: int, by: int) -> None:
        if membership == JOIN:
            self.joined_count += by
        elif membership == INVITE:
            self.invited_count += by

    def membership(self, user_id: UserId) -> int:
        """JOIN … BAN; 0 if the user has never been here."""
        member = self.members.get(user_id)
        return member.membership if member else 0

    def users_with(self, membership: int) -> Iterator[UserId]:
        """Users of one membership, in the order of their last change."""
        return (user_id for user_id, member in self.members.items() if member.membership == membership)
