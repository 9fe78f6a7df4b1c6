"""Integers for the long strings: users, rooms, state keys. Given out once, never changed, so they may be cached freely.

They are flushed before they are used: a number that a crash or a failover of the database takes back would be given to
somebody else, while it is still in memory here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Generic, TypeVar

from homeserver.events.event import StateKey
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix.ids import RoomId, UserId, is_room_id, is_user_id
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import merged
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

SHARE = 2.0
NAME_BYTES = 500
"""What a name, its number and their places in memory take."""
NAMES_AT_ONCE = 1_000
"""Looked up together: some milliseconds."""
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Names(Generic[K]):
    """Both directions of a cache."""

    def __init__(self, memory: MemoryBudget, name: str) -> None:
        self.nids: Cache[K, int] = memory.cache(name, SHARE, gone=self._gone)
        self._names: dict[int, K] = {}

    def add(self, pairs: Iterable[tuple[K, int]]) -> None:
        for name, nid in pairs:
            self._names[nid] = name
            self.nids.put(name, nid, NAME_BYTES)

    def name(self, nid: int) -> K | None:
        """What is called by this number; counts as used."""
        name = self._names.get(nid)
        if name is not None:
            self.nids.get(name)
        return name

    def _gone(self, _: K, nid: int) -> None:
        self._names.pop(nid, None)


class RoomIdentity:
    """The unchanging facts of a room."""

    __slots__ = ("nid", "room_id", "version")

    def __init__(self, nid: int, room_id: RoomId, version: RoomVersion) -> None:
        self.nid = nid
        self.room_id = room_id
        self.version = version


class Interning:
    """Gives out and remembers the numbers of users, rooms and state keys; bounded caches of what never changes."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._users: _Names[UserId] = _Names(memory, "users")
        self._keys: _Names[StateKey] = _Names(memory, "state_keys")
        self._rooms: Cache[int, RoomIdentity] = memory.cache("room_ids", SHARE, gone=self._room_gone)
        self._rooms_by_id: dict[str, RoomIdentity] = {}

    # --- users ---------------------------------------------------------------------------------------------------

    async def user_nid(self, user_id: UserId) -> int:
        """The user's number; made if new."""
        known = self._users.nids.get(user_id)
        return known if known is not None else (await self.user_nids([user_id]))[user_id]

    async def user_nids(self, user_ids: Collection[UserId]) -> dict[UserId, int]:
        """Numbers of users; made for those never seen."""
        found, missing = _known(self._users.nids.get, user_ids)
        if missing:
            async with self._db.transaction() as tx:
                rows = await intern_users(tx, missing)
            self._users.add(rows)
            found.update(rows)
        return found

    async def find_user_nids(self, user_ids: Collection[UserId]) -> dict[UserId, int]:
        """Numbers of those users that have one; nothing is made. What is no user id (account data names anybody) has none.

        Of many (a list of ignored users holds tens of thousands) some at a time, and others have a turn between.
        """
        return await merged(user_ids, NAMES_AT_ONCE, self._find_users)

    async def _find_users(self, user_ids: Collection[UserId]) -> dict[UserId, int]:
        found, missing = _known(self._users.nids.get, user_ids)
        if missing := [user_id for user_id in missing if is_user_id(user_id)]:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT user_id, user_nid FROM users WHERE user_id = ANY(%(ids)s)", ids=missing
                )
            self._users.add(rows)
            found.update(rows)
        return found

    async def user_ids(self, nids: Collection[int]) -> dict[int, UserId]:
        """Names of users; all must exist. Of many some at a time, as `find_user_nids`."""
        return await merged(nids, NAMES_AT_ONCE, self._read_user_ids)

    async def _read_user_ids(self, nids: Collection[int]) -> dict[int, UserId]:
        found, missing = _known(self._users.name, nids)
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT user_id, user_nid FROM users WHERE user_nid = ANY(%(nids)s)", nids=missing
                )
            self._users.add(rows)
            found.update((nid, user_id) for user_id, nid in rows)
        return {nid: found[nid] for nid in nids}

    def known_user_nid(self, user_id: UserId) -> int | None:
        """From memory alone."""
        return self._users.nids.get(user_id)

    # --- state keys ----------------------------------------------------------------------------------------------

    async def key_nids(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """Numbers of state keys; made for those never seen."""
        found, missing = _known(self._keys.nids.get, keys)
        if missing:
            async with self._db.transaction() as tx:
                rows = await _intern_keys(tx, missing)
            self._keys.add(rows)
            found.update(rows)
        return found

    async def find_key_nids(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """Numbers of those keys that have one; nothing is made."""
        found, missing = _known(self._keys.nids.get, keys)
        if missing:
            async with self._db.read() as tx:
                found.update(await self._find_keys(tx, missing))
        return found

    async def find_key_nids_in(self, tx: Tx, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """The same on a connection at hand."""
        found, missing = _known(self._keys.nids.get, keys)
        if missing:
            found.update(await self._find_keys(tx, missing))
        return found

    async def _find_keys(self, tx: Tx, keys: list[StateKey]) -> list[tuple[StateKey, int]]:
        rows = await _select_keys(tx, [key for key in keys if "\0" not in key[0] and "\0" not in key[1]])
        self._keys.add(rows)
        return rows

    def known_key_nid(self, key: StateKey) -> int | None:
        """From memory alone."""
        return self._keys.nids.get(key)

    async def keys(self, nids: Collection[int]) -> dict[int, StateKey]:
        """State keys by number; all must exist. Of many some at a time, as `find_user_nids`."""
        return await merged(nids, NAMES_AT_ONCE, self._read_keys)

    async def _read_keys(self, nids: Collection[int]) -> dict[int, StateKey]:
        found, missing = _known(self._keys.name, nids)
        if missing:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT key_nid, type, state_key FROM event_keys WHERE key_nid = ANY(%(nids)s)",
                    nids=missing,
                )
            self._keys.add([((kind, key), nid) for nid, kind, key in rows])
            found.update((nid, (kind, key)) for nid, kind, key in rows)
        return {nid: found[nid] for nid in nids}

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def room(self, room_id: RoomId) -> RoomIdentity | None:
        """None for a room this server does not know."""
        known = self._rooms_by_id.get(room_id)
        if known is not None:
            self._rooms.get(known.nid)  # it is in use
        elif is_room_id(room_id):
            async with self._db.read() as tx:
                row = await tx.one(
                    "SELECT room_nid, room_id, version FROM rooms WHERE room_id = %(id)s", id=room_id
                )
            known = self._remember(row) if row else None
        return known

    def known_room(self, room_id: RoomId) -> RoomIdentity | None:
        """From memory alone."""
        return self._rooms_by_id.get(room_id)

    async def find_rooms(self, room_ids: Collection[RoomId]) -> dict[RoomId, RoomIdentity]:
        """Those of the rooms that this server knows. What is no room id (the content of events names anything) is none."""
        found, missing = _known(self._rooms_by_id.get, room_ids)
        if missing := [room_id for room_id in missing if is_room_id(room_id)]:
            async with self._db.read() as tx:
                rows = await tx.all(
                    "SELECT room_nid, room_id, version FROM rooms WHERE room_id = ANY(%(ids)s)", ids=missing
                )
            found.update((row[1], self._remember(row)) for row in rows)
        return found

    async def rooms(self, nids: Collection[int]) -> dict[int, RoomIdentity]:
        """Rooms by number; those that exist."""
        found, missing = _known(self._rooms.get, nids)
        if missing:
            async with self._db.read() as tx:
                found.update(await self._read_rooms(tx, missing))
        return found

    async def rooms_in(self, tx: Tx, nids: Collection[int]) -> dict[int, RoomIdentity]:
        """The same on a connection at hand."""
        found, missing = _known(self._rooms.get, nids)
        if missing:
            found.update(await self._read_rooms(tx, missing))
        return found

    async def _read_rooms(self, tx: Tx, nids: list[int]) -> dict[int, RoomIdentity]:
        rows = await tx.all(
            "SELECT room_nid, room_id, version FROM rooms WHERE room_nid = ANY(%(nids)s)", nids=nids
        )
        return {row[0]: self._remember(row) for row in rows}

    async def new_room_nid(self) -> int:
        """A number for a room that is being created."""
        async with self._db.transaction() as tx:
            return int(await tx.value("SELECT nextval('room_nids')"))

    def add_room(self, name: RoomIdentity) -> None:
        """A room that was just written."""
        self._rooms_by_id[name.room_id] = name
        self._rooms.put(name.nid, name, NAME_BYTES)

    def forget_room(self, nid: int) -> None:
        """Its version may be another one than was said when it was first heard of."""
        name = self._rooms.pop(nid)
        if name is not None:
            self._rooms_by_id.pop(name.room_id, None)

    def _room_gone(self, _: int, name: RoomIdentity) -> None:
        self._rooms_by_id.pop(name.room_id, None)

    def _remember(self, row: tuple[int, RoomId, str]) -> RoomIdentity:
        name = RoomIdentity(row[0], row[1], ROOM_VERSIONS[row[2]])
        self.add_room(name)
        return name


def _known(look: Callable[[K], V | None], wanted: Collection[K]) -> tuple[dict[K, V], list[K]]:
    """What a cache holds of what is wanted, to keep whatever leaves the cache meanwhile; and what it lacks."""
    found = {key: value for key in wanted if (value := look(key)) is not None}
    return found, [key for key in dict.fromkeys(wanted) if key not in found]


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
