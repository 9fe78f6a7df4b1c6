"""Keeping a device that nobody holds: its row has no tokens, so it is reached like any other and never logs in.

MSC3814. Replacing or deleting it ends a device: keys and messages go, sharers hear of it (E2E-13).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

from psycopg.errors import NotNullViolation, UniqueViolation

from homeserver.dehydrated import store
from homeserver.dehydrated.store import DehydratedRow
from homeserver.devices.service import DeviceService
from homeserver.devices.types import NewDevice
from homeserver.e2ee.checks import CheckedKeys, check_upload
from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.e2ee.keys import KeyService
from homeserver.log.entries import Conflict, Position
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix import json
from homeserver.matrix.errors import BadJson, Forbidden, InvalidParam, NotFound, TooLarge
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.sessions.service import check_device_id
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.to_device.service import ToDeviceService

MAX_DATA_BYTES = 256 * 1024
_TOKEN = re.compile(r"d([0-9]{1,18})", re.ASCII)


class NewDehydrated(NamedTuple):
    """A device to be kept."""

    device_id: str
    data: Mapping[str, Any]
    """Of no meaning to the server but for `algorithm`."""
    name: str | None
    device_keys: Mapping[str, Any]
    one_time_keys: Mapping[str, Any]
    fallback_keys: Mapping[str, Any]


class DehydratedService:
    """Stores, shows and deletes dehydrated devices. Keeps nothing in memory."""

    def __init__(
        self,
        db: Database,
        devices: DeviceService,
        keys: KeyService,
        cross_signing: CrossSigningService,
        to_device: ToDeviceService,
    ) -> None:
        self._db = db
        self._devices = devices
        self._keys = keys
        self._cross_signing = cross_signing
        self._to_device = to_device
        self._turns = KeyedLocks()

    async def put(self, user_nid: int, user_id: UserId, new: NewDehydrated) -> None:
        """Keep a device with its keys; the one kept before ends. The same again is a retry: its messages stay.

        Raises `InvalidParam`, `BadJson`, `TooLarge`, `Forbidden` for the id of another device or of a cross-signing key (E2E-10),
        and `Unavailable` where other processes put others all the time. Nothing has changed then.
        """
        device_id = DeviceId(new.device_id)
        data = _checked_data(new.data)
        check_device_id(device_id)
        # All that can be wrong with the keys is found before anything ends.
        keys = check_upload(user_id, device_id, new.device_keys, new.one_time_keys, new.fallback_keys)
        if await self._cross_signing.is_key(user_nid, device_id):
            raise Forbidden("device_id: one of your cross-signing keys is called so")

        def put() -> Awaitable[None]:
            return self._put(user_nid, user_id, new, data, keys)

        await self._turns.changed(user_nid, put)

    async def _put(  # one value each, called in one place
        self, user_nid: int, user_id: UserId, new: NewDehydrated, data: bytes, keys: CheckedKeys
    ) -> None:
        """Raises `Conflict` where another process has put another device meanwhile: that one is to be replaced."""
        before = await self._find(user_nid)
        if before is not None and before.device_id == new.device_id:
            return await self._put_again(user_nid, user_id, new, data)
        try:
            return await self._replace(user_nid, user_id, before, new, data, keys)
        except NotNullViolation:
            raise Conflict from None
        except UniqueViolation:
            async with self._db.read() as tx:
                taken = await store.is_another(tx, user_nid, new.device_id)
            if taken:
                raise Forbidden("device_id: another device is called so") from None
            raise Conflict from None  # the same was put elsewhere, and may have been replaced since

    async def _put_again(self, user_nid: int, user_id: UserId, new: NewDehydrated, data: bytes) -> None:
        device_id = DeviceId(new.device_id)
        async with self._db.transaction() as tx:
            await store.update(tx, user_nid, device_id, data)
        await self._keys.upload(
            user_nid,
            user_id,
            device_id,
            device_keys=new.device_keys,
            one_time_keys=new.one_time_keys,
            fallback_keys=new.fallback_keys,
        )

    async def _replace(  # noqa: PLR0917  # one value each, called in one place
        self,
        user_nid: int,
        user_id: UserId,
        before: DehydratedRow | None,
        new: NewDehydrated,
        data: bytes,
        keys: CheckedKeys,
    ) -> None:
        """One transaction: the new device is there with its keys, or the former one is as it was."""
        device_id = DeviceId(new.device_id)

        def also(batch: Pipeline) -> None:
            store.put(batch, user_nid, device_id, data, before.device_id if before else None)
            self._keys.write(batch, user_nid, device_id, keys)

        made = NewDevice(device_id, new.name)
        ended = [before.device_id] if before else []
        entries = self._keys.entries(user_nid, user_id, device_id, keys)
        await self._devices.exchange(user_nid, user_id, made, ended, also=also, entries=entries)

    async def is_dehydrated(self, user_nid: int, device_id: DeviceId) -> bool:
        """Whether nobody may log in as this device."""
        row = await self._find(user_nid)
        return row is not None and row.device_id == device_id

    async def get(self, user_nid: int) -> DehydratedRow:
        """Raises `NotFound`."""
        row = await self._find(user_nid)
        if row is None:
            raise NotFound("There is no dehydrated device")
        return row

    async def delete(self, user_nid: int, user_id: UserId) -> str:
        """End it. Returns its id. Raises `NotFound`."""
        row = await self.get(user_nid)
        await self._devices.delete(user_nid, user_id, [row.device_id])
        return row.device_id

    async def events(self, user_nid: int, device_id: str, token: str | None) -> tuple[list[bytes], Position]:
        """A page of messages after the token, and the position of the last; none: there are no more.

        Raises `NotFound` (no dehydrated device), `Forbidden` (another device), `InvalidParam` (no token of ours).
        """
        row = await self.get(user_nid)
        if row.device_id != device_id:
            raise Forbidden("This is not your dehydrated device")
        found = await self._to_device.waiting(user_nid, device_id, _position(token))
        return [message for _, message in found], found[-1][0] if found else 0

    async def _find(self, user_nid: int) -> DehydratedRow | None:
        async with self._db.read() as tx:
            return await store.find(tx, user_nid)


def _checked_data(data: Mapping[str, Any]) -> bytes:
    if not isinstance(data.get("algorithm"), str):
        raise BadJson("device_data.algorithm: a name is expected")
    encoded = json.dumps(data)
    if len(encoded) > MAX_DATA_BYTES:
        raise TooLarge(f"device_data: more than {MAX_DATA_BYTES} bytes")
    return encoded


def _position(token: str | None) -> Position:
    if not token:
        return 0
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam("next_batch: not a token of this server")
    return int(found[1])
