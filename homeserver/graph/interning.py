"""Integers for the long strings: users, rooms, state keys. Given out once, never changed, so they may be cached freely."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

from homeserver.events.event import StateKey
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix.ids import RoomId, UserId
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

CACHE_SIZE = 200_000
K = TypeVar("K", bound=Hashable)


class _Names(Generic[K]):
    """Both directions of a bounded cache; the oldest half goes when it is full."""

    def __init__(self, limit: int) -> None:
        self.nids: dict[K, int] = {}
        self.names: dict[int, K] = {}
        self._limit = limit

    def add(self, pairs: Iterable[tuple[K, int]]) -> None:
        for name, nid in pairs:
            self.nids[name] = nid
            self.names[nid] = name
        if len(self.nids) > self._limit:
            for name in list(self.nids)[: self._limit // 2]:
                del self.names[self.nids.pop(name)]


class RoomIdentity:
    """The unchanging facts of a room."""

    __slots__ = ("nid", "room_id", "version")

    def __init__(self, nid: int, room_id: RoomId, version: RoomVersion) -> None:
        self.nid = nid
        self.room_id = room_id
        self.version = version


class Interning:
    """One per process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._users: _Names[UserId] = _Names(CACHE_SIZE)
        self._keys: _Names[StateKey] = _Names(CACHE_SIZE)
        self._rooms: dict[int, RoomIdentity] = {}
        self._rooms_by_id: dict[str, RoomIdentity] = {}

    # --- users ---------------------------------------------------------------------------------------------------

    async def user_nid(self, user_id: UserId) -> int:
        """The user's number; made if new."""
        known = self._users.nids.get(user_id)
        return known if known is not None else (await self.user_nids([user_id]))[user_id]

    async def user_nids(self, user_ids: Collection[UserId]) -> dict[UserId, int]:
        """Numbers of users; made for those never seen."""
        missing = [user_id for user_id in set(user_ids) if user_id not in self._users.nids]
        found: dict[UserId, int] = {}
        if missing:
            async with self._db.transaction() as tx:
                await tx.execute(
                    "SET LOCAL synchronous_commit = off"
                )  # flushed with whatever first refers to it
                found = dict(await intern_users(tx, missing))
            self._users.add(found.items())
        return {user_id: found.get(user_id) or self._users.nids[user_id] for user_id in user_ids}

    async def find_user_nids(self, user_ids: Collection[UserId]) -> dict[UserId, int]:
        """Numbers of those users that have one; nothing is made."""
        known = {user_id: self._users.nids[user_id] for user_id in user_ids if user_id in self._users.nids}
        missing = [user_id for user_id in user_ids if user_id not in known]
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT user_id, user_nid FROM users WHERE user_id = ANY(%(ids)s)", ids=list(missing)
                )
            self._users.add(rows)
            known.update(rows)
        return known

    async def user_ids(self, nids: Collection[int]) -> dict[int, UserId]:
        """Names of users; all must exist."""
        missing = [nid for nid in nids if nid not in self._users.names]
        found: dict[int, UserId] = {}
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT user_id, user_nid FROM users WHERE user_nid = ANY(%(nids)s)", nids=missing
                )
            self._users.add(rows)
            found = {nid: user_id for user_id, nid in rows}
        return {nid: found.get(nid) or self._users.names[nid] for nid in nids}

    def known_user_nid(self, user_id: UserId) -> int | None:
        """From memory alone."""
        return self._users.nids.get(user_id)

    # --- state keys ----------------------------------------------------------------------------------------------

    async def key_nids(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """Numbers of state keys; made for those never seen."""
        missing = [key for key in set(keys) if key not in self._keys.nids]
        found: dict[StateKey, int] = {}
        if missing:
            async with self._db.transaction() as tx:
                await tx.execute("SET LOCAL synchronous_commit = off")
                found = dict(await _intern_keys(tx, missing))
            self._keys.add(found.items())
        return {key: found.get(key) or self._keys.nids[key] for key in keys}

    async def find_key_nids(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """Numbers of those keys that have one; nothing is made."""
        known = {key: self._keys.nids[key] for key in keys if key in self._keys.nids}
        missing = [key for key in keys if key not in known]
        if missing:
            async with self._db.read() as tx:
                rows = await _select_keys(tx, missing)
            self._keys.add(rows)
            known.update(rows)
        return known

    def known_key_nid(self, key: StateKey) -> int | None:
        """From memory alone."""
        return self._keys.nids.get(key)

    async def keys(self, nids: Collection[int]) -> dict[int, StateKey]:
        """State keys by number; all must exist."""
        missing = [nid for nid in nids if nid not in self._keys.names]
        found: dict[int, StateKey] = {}
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT key_nid, type, state_key FROM event_keys WHERE key_nid = ANY(%(nids)s)",
                    nids=missing,
                )
            found = {nid: (kind, key) for nid, kind, key in rows}
            self._keys.add((key, nid) for nid, key in found.items())
        return {nid: found.get(nid) or self._keys.names[nid] for nid in nids}

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def room(self, room_id: RoomId) -> RoomIdentity | None:
        """None for a room this server does not know."""
        known = self._rooms_by_id.get(room_id)
        if known is None:
            async with self._db.read() as tx:
                row = await tx.one(
                    "SELECT room_nid, room_id, version FROM rooms WHERE room_id = %(id)s", id=room_id
                )
            known = self._remember(row) if row else None
        return known

    async def rooms(self, nids: Collection[int]) -> dict[int, RoomIdentity]:
        """Rooms by number; those that exist."""
        missing = [nid for nid in nids if nid not in self._rooms]
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT room_nid, room_id, version FROM rooms WHERE room_nid = ANY(%(nids)s)",
                    nids=missing,
                )
            for row in rows:
                self._remember(row)
        return {nid: self._rooms[nid] for nid in nids if nid in self._rooms}

    async def new_room_nid(self) -> int:
        """A number for a room that is being created."""
        async with self._db.transaction() as tx:
            return int(await tx.value("SELECT nextval('room_nids')"))

    def add_room(self, name: RoomIdentity) -> None:
        """A room that was just written."""
        self._rooms[name.nid] = name
        self._rooms_by_id[name.room_id] = name

    def _remember(self, row: tuple[int, RoomId, str]) -> RoomIdentity:
        name = RoomIdentity(row[0], row[1], ROOM_VERSIONS[row[2]])
        if len(self._rooms) > CACHE_SIZE:
            self._rooms.clear()
            self._rooms_by_id.clear()
        self.add_room(name)
        return name


async def intern_users(tx: Tx, user_ids: list[UserId]) -> list[tuple[UserId, int]]:
    """(user_id, user_nid) of each, inserting new ones."""
    await tx.execute(
        "INSERT INTO users (user_id) SELECT unnest(%(ids)s::text[]) ON CONFLICT (user_id) DO NOTHING",
        ids=sorted(user_ids),
    )
    return await tx.all("SELECT user_id, user_nid FROM users WHERE user_id = ANY(%(ids)s)", ids=user_ids)


async def _intern_keys(tx: Tx, keys: list[StateKey]) -> list[tuple[StateKey, int]]:
    keys = sorted(keys)
    await tx.execute(
        """
        INSERT INTO event_keys (type, state_key) SELECT * FROM unnest(%(types)s::text[], %(keys)s::text[])
        ON CONFLICT (type, state_key) DO NOTHING
        """,
        types=[key[0] for key in keys],
        keys=[key[1] for key in keys],
    )
    return await _select_keys(tx, keys)


async def _select_keys(tx: Tx, keys: list[StateKey]) -> list[tuple[StateKey, int]]:
    rows = await tx.all(
        """
        SELECT k.type, k.state_key, k.key_nid FROM event_keys k
        JOIN unnest(%(types)s::text[], %(keys)s::text[]) AS w (type, state_key) USING (type, state_key)
        """,
        types=[key[0] for key in keys],
        keys=[key[1] for key in keys],
    )
    return [((row[0], row[1]), row[2]) for row in rows]
