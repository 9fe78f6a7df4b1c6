"""Projection: in which rooms a user is, was, or is invited; for users who are about, also those of other servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from homeserver.graph.entry import EventEntry, touches_state
from homeserver.graph.refs import JOIN, LEAVE
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed, Tail
from homeserver.rooms import store
from homeserver.rooms.entries import ForgetEntry
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import pieces
from homeserver.storage.database import Database

SHARE = 3.0
AT_ONCE = 200
"""Users whose rooms are read together."""
USER_BYTES, ROOM_BYTES = 500, 300
"""What a user takes in the cache, and each of their rooms."""
_MOMENTS = itertools.count()


class Membership(NamedTuple):
    """A user's current membership in a room."""

    membership: int
    position: Position
    """Since when: that of the membership event, or of the event with which resolution made it so."""
    forgotten: bool
    event_nid: int = 0
    """The membership event; 0 if resolution took it away."""


class UserRooms:
    """One user's rooms: room_nid -> membership. `rooms` is never changed in place: who holds it holds a moment."""

    __slots__ = ("joined", "moment", "position", "rooms")

    def __init__(self, position: Position, rooms: dict[int, Membership]) -> None:
        self.position = position
        self.rooms = rooms
        self.joined = _joined(rooms)
        """room_nids of what the user is joined to."""
        self.moment = next(_MOMENTS)
        """Names what `rooms` is, in this process and once: for who remembers what followed from it, and not the rooms."""

    def set(self, room_nid: int, own: Membership | None) -> None:
        """Another membership; None: none."""
        rooms = dict(self.rooms)
        if own is None:
            rooms.pop(room_nid, None)
        else:
            rooms[room_nid] = own
        self.rooms = rooms
        self.joined = _joined(rooms)
        self.moment = next(_MOMENTS)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return USER_BYTES + ROOM_BYTES * len(self.rooms)

    def with_membership(self, *memberships: int) -> list[int]:
        """room_nids; forgotten rooms left out."""
        return [nid for nid, own in self.rooms.items() if own.membership in memberships and not own.forgotten]


class Memberships:
    """A projection: of users who are about, in which rooms they are, were or are invited; a bounded cache."""

    def __init__(self, db: Database, tail: Tail, memory: MemoryBudget) -> None:
        self._db = db
        self._tail = tail
        self._users: Cache[int, UserRooms] = memory.cache("memberships", SHARE)

    def cached(self, user_nid: int) -> UserRooms | None:
        """From memory alone."""
        return self._users.get(user_nid)

    async def of(self, user_nid: int) -> UserRooms:
        """The user's rooms as of `tail.position` or later."""
        found = self._users.get(user_nid)
        return found if found is not None else (await self._load([user_nid]))[user_nid]

    async def prepare(self, user_nids: Iterable[int]) -> None:
        """Have the rooms of some users in memory, as far as it reaches: one query for many."""
        for some in pieces([nid for nid in user_nids if self._users.get(nid) is None], AT_ONCE):
            await self._load(some)

    async def _load(self, user_nids: Sequence[int]) -> dict[int, UserRooms]:
        while True:
            async with self._db.snapshot() as tx:
                position, rows = await store.read_memberships(tx, user_nids)
            if position >= self._tail.floor:
                break
        rooms: dict[int, dict[int, Membership]] = {nid: {} for nid in user_nids}
        for user_nid, room, membership, at, gone, nid in rows:
            rooms[user_nid][room] = Membership(membership, at, bool(gone), nid)
        loaded = {user_nid: UserRooms(position, own) for user_nid, own in rooms.items()}
        for written in self._tail.since(position) if position < self._tail.position else ():
            for user_nid, user in loaded.items():
                self._apply_to(user_nid, user, written.position, written.entry)
        for user_nid, user in loaded.items():
            self._users.put(user_nid, user, user.size)
        return loaded

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._event, touches_state), ForgetEntry: self._forget}

    def reset(self) -> None:
        self._users.clear()

    def _event(self, position: Position, entry: EventEntry) -> None:
        for change in entry.changes:
            user = self._users.get(change.user_nid) if change.user_nid is not None else None
            if user is not None and change.user_nid is not None:
                self._apply_to(change.user_nid, user, position, entry)
                self._users.resize(change.user_nid, user.size)

    def _forget(self, position: Position, entry: ForgetEntry) -> None:
        user = self._users.get(entry.user_nid)
        if user is not None:
            self._apply_to(entry.user_nid, user, position, entry)

    def _apply_to(self, user_nid: int, user: UserRooms, position: Position, entry: Entry) -> None:
        if position <= user.position:
            return
        user.position = position
        if isinstance(entry, ForgetEntry):
            own = user.rooms.get(entry.room_nid)
            if entry.user_nid == user_nid and own is not None and own.position == entry.left_at:
                user.set(entry.room_nid, own._replace(forgotten=True))
        elif isinstance(entry, EventEntry):
            for change in entry.changes:
                if change.user_nid != user_nid:
                    continue
                room = entry.persisted.room_nid
                if change.ref is not None and change.membership is not None:
                    user.set(room, Membership(change.membership, position, False, change.ref.nid))
                elif room in user.rooms:
                    user.set(room, Membership(LEAVE, position, False))  # whoever is nothing any more has left


def _joined(rooms: dict[int, Membership]) -> frozenset[int]:
    return frozenset(nid for nid, own in rooms.items() if own.membership == JOIN)
