"""Key backups: only the newest version is written to; of two keys of a session the better one stays.

spec: client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from homeserver.key_backup import store
from homeserver.key_backup.store import Kept, VersionRow
from homeserver.key_backup.types import Row, Updated
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, NotFound, TooLarge, WrongRoomKeysVersion
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

MAX_KEYS = 5_000
"""Sessions of one upload; clients send some hundred at once."""
MAX_SESSION_BYTES = 64 * 1024
MAX_ALGORITHM = 255
MAX_AUTH_DATA = 64 * 1024


class KeyBackupService:
    """Stores key backups and their versions. Keeps nothing in memory."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended."""
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)

    # --- versions ------------------------------------------------------------------------------------------------

    async def create(self, user_nid: int, algorithm: str, auth_data: Mapping[str, Any]) -> int:
        """A new version; keys are written to it alone from now on. Raises `InvalidParam`, `TooLarge`."""
        if not algorithm or len(algorithm) > MAX_ALGORITHM or "\0" in algorithm:
            raise InvalidParam(f"algorithm: a name of 1 to {MAX_ALGORITHM} characters is expected")
        data = _auth_data(auth_data)
        async with self._db.transaction() as tx:
            await store.lock_user(tx, user_nid)
            return await store.insert_version(tx, user_nid, algorithm, data)

    async def version(self, user_nid: int, version: str | None) -> VersionRow:
        """A version, or the newest. Raises `NotFound`, also for a deleted one."""
        async with self._db.read() as tx:
            row = await store.find_version(tx, user_nid, _number(version) if version is not None else None)
        if row is None or row.deleted:
            raise NotFound("There is no such backup")
        return row

    async def update(self, user_nid: int, version: str, algorithm: str, auth_data: Mapping[str, Any]) -> None:
        """Other `auth_data`; the algorithm stays (E2E-16). Raises `NotFound`, `InvalidParam`, `TooLarge`."""
        row = await self.version(user_nid, version)
        if row.algorithm != algorithm:
            raise InvalidParam("algorithm: a backup keeps its algorithm")
        async with self._db.transaction() as tx:
            if not await store.update_auth_data(tx, user_nid, row.version, _auth_data(auth_data)):
                raise NotFound("There is no such backup")

    async def delete(self, user_nid: int, version: str) -> None:
        """With its keys; one that was deleted before is deleted. Raises `NotFound`."""
        number = _number(version)
        async with self._db.transaction() as tx:
            row = await store.find_version(tx, user_nid, number)
            if row is None:
                raise NotFound("There is no such backup")
            if not row.deleted:
                await store.delete_version(tx, user_nid, number)

    # --- keys ----------------------------------------------------------------------------------------------------

    async def put(self, user_nid: int, version: str, rows: Sequence[Row]) -> Updated:
        """Keep keys. Raises `NotFound`, `WrongRoomKeysVersion` (E2E-14)."""
        number = _number(version)
        async with self._db.transaction() as tx:
            await self._lock(tx, user_nid, number)
            kept = await store.put_keys(tx, user_nid, number, rows) if rows else Kept(0, 0)
            return await self._updated(tx, user_nid, number, kept)

    async def remove(
        self, user_nid: int, version: str, room_id: str | None, session_id: str | None
    ) -> Updated:
        """Delete all keys, those of a room, or one. Raises as `put`."""
        number = _number(version)
        async with self._db.transaction() as tx:
            await self._lock(tx, user_nid, number)
            gone = await store.delete_keys(tx, user_nid, number, room_id, session_id)
            return await self._updated(tx, user_nid, number, Kept(gone, -gone))

    async def find(self, user_nid: int, version: str, room_id: str, session_id: str) -> Row:
        """The key of one session. Raises `NotFound`, also for an unknown version."""
        number = (await self.version(user_nid, version)).version
        async with self._db.read() as tx:
            row = await store.find_key(tx, user_nid, number, room_id, session_id)
        if row is None:
            raise NotFound("There is no such key in the backup")
        return row

    async def pages(
        self, user_nid: int, version: str, room_id: str | None = None
    ) -> AsyncIterator[list[Row]]:
        """All keys, or those of a room, by room and session: a backup may have a hundred thousand. Raises `NotFound` for an
        unknown version, before the first page.
        """
        number = (await self.version(user_nid, version)).version
        after = (room_id or "", "")
        while True:
            async with self._db.read() as tx:
                rows = await store.find_keys(tx, user_nid, number, room_id, after)
            if not rows:
                return
            yield rows
            after = rows[-1].room_id, rows[-1].session_id

    async def _lock(self, tx: Tx, user_nid: int, number: int) -> None:
        newest = await store.lock_newest(tx, user_nid)
        if newest == number:
            return
        if newest is None:
            raise NotFound("There is no backup")
        raise WrongRoomKeysVersion("This is not the newest backup", current_version=str(newest))

    async def _updated(self, tx: Tx, user_nid: int, number: int, kept: Kept) -> Updated:
        if kept.changed:
            etag, count = await store.touch(tx, user_nid, number, kept.new)
            return Updated(str(etag), count)
        row = await store.find_version(tx, user_nid, number)
        assert row is not None
        return Updated(str(row.etag), row.keys)


def check_number(keys: int) -> None:
    """Raises `InvalidParam` for more keys than one upload may have: before anything is done with them."""
    if keys > MAX_KEYS:
        raise InvalidParam(f"More than {MAX_KEYS} keys")


def session_data(data: Mapping[str, Any], where: str) -> bytes:
    """As it is stored. Raises `TooLarge`."""
    encoded = json.dumps(data)
    if len(encoded) > MAX_SESSION_BYTES:
        raise TooLarge(f"{where}.session_data: more than {MAX_SESSION_BYTES} bytes")
    return encoded


def _auth_data(auth_data: Mapping[str, Any]) -> bytes:
    data = json.dumps(auth_data)
    if len(data) > MAX_AUTH_DATA:
        raise TooLarge(f"auth_data: more than {MAX_AUTH_DATA} bytes")
    return data


def _number(version: str) -> int:
    """Raises `NotFound` for what this server never gave out."""
    if not (version.isascii() and version.isdigit() and len(version) < 18):
        raise NotFound("There is no such backup")
    return int(version)
