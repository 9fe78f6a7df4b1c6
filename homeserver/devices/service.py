"""Devices of local users: listing, naming, ending. Whoever keeps something per device hears of it in the transaction.

spec: client-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from homeserver.devices import store
from homeserver.devices.types import Device, DeviceChange, DeviceListener, DeviceRow, NewDevice
from homeserver.log.entries import Entry, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, NotFound
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.runtime.clock import Clock
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.last_seen import LastSeen
from homeserver.sessions.ports import CrossSigningKeys, NoCrossSigningKeys
from homeserver.sessions.service import MAX_DISPLAY_NAME, check_device_id
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

Also = Callable[[Pipeline], None]
"""Adds statements to the transaction in which devices end."""


class DeviceService:
    """The devices of local users."""

    def __init__(
        self,
        *,
        db: Database,
        log: LogWriter,
        clock: Clock,
        last_seen: LastSeen,
        cross_signing: CrossSigningKeys | None = None,
        most: int = 200,
    ) -> None:
        """`most`: devices of a person that are logged in."""
        self._most = most
        self._cross_signing = cross_signing or NoCrossSigningKeys()
        self._db = db
        self._log = log
        self._clock = clock
        self._last_seen = last_seen
        self._listeners: list[DeviceListener] = []

    def listen(self, listener: DeviceListener) -> None:
        """Plug in a feature that keeps something per device."""
        self._listeners.append(listener)

    async def list_of(self, user_nid: int) -> list[Device]:
        async with self._db.read() as tx:
            rows = await store.list_devices(tx, user_nid)
        return [self._shown(user_nid, row) for row in rows]

    async def get(self, user_nid: int, device_id: DeviceId) -> Device:
        """Raises `NotFound`."""
        return self._shown(user_nid, await self._row(user_nid, device_id))

    async def connections(self, user_nid: int) -> list[tuple[Device, str | None]]:
        """Devices with the user agent they were last seen with: for `whois`."""
        async with self._db.read() as tx:
            rows = await store.list_devices(tx, user_nid)
        return [(self._shown(user_nid, row), self._agent(user_nid, row)) for row in rows]

    async def rename(self, user_nid: int, user_id: UserId, device_id: DeviceId, name: str | None) -> None:
        """None leaves the name as it is. Raises `NotFound`."""
        row = await self._row(user_nid, device_id)
        if name is None or name[:MAX_DISPLAY_NAME] == row.display_name:
            return
        change = DeviceChange(user_nid, user_id, (device_id,))
        shown = name[:MAX_DISPLAY_NAME]

        def write(batch: Pipeline, written: Sequence[Written[Any]]) -> None:
            store.rename(batch, user_nid, device_id, shown)
            for listener in self._listeners:
                listener.on_devices_renamed(batch, change, written)

        entries = [entry for listener in self._listeners for entry in listener.rename_entries(change)]
        await self._log.append(*entries, alongside=write)

    async def create(self, user_nid: int, device_id: DeviceId, name: str | None) -> bool:
        """For appservices, which log nobody in (CHECKLIST DEV-02). False if it exists; then nothing happens.

        Raises `InvalidParam`, and `Forbidden` for the ID of a cross-signing key of the user (E2E-10).
        """
        check_device_id(device_id)
        if await self._cross_signing.is_key(user_nid, device_id):
            raise Forbidden("This device ID is the ID of a cross-signing key")
        shown = name[:MAX_DISPLAY_NAME] if name else None
        async with self._db.transaction() as tx:
            return await store.insert_if_new(tx, user_nid, device_id, shown, self._clock.now_ms())

    async def exchange(
        self,
        user_nid: int,
        user_id: UserId,
        new: NewDevice,
        ended: Sequence[DeviceId],
        *,
        also: Also,
        entries: Sequence[Entry],
    ) -> None:
        """Make a device and end others in one transaction, with what `also` adds; `entries` are logged with it.

        Raises `psycopg.errors.UniqueViolation` if there is a device with the new one's id.
        """
        shown = new.display_name[:MAX_DISPLAY_NAME] if new.display_name else None

        def write(batch: Pipeline) -> None:
            store.insert_new_device(batch, user_nid, new.device_id, shown, self._clock.now_ms())
            also(batch)

        await self._delete(DeviceChange(user_nid, user_id, ended), write, entries)

    async def make_room(self, user_nid: int, user_id: UserId, newest: DeviceId) -> None:
        """Somebody has logged in: end the devices unused longest, if there are too many."""
        async with self._db.read() as tx:
            surplus = await store.find_surplus(tx, user_nid, self._most)
        ended = [device_id for device_id in surplus if device_id != newest]
        if ended:
            await self._delete(DeviceChange(user_nid, user_id, ended), None)

    async def delete(self, user_nid: int, user_id: UserId, device_ids: Iterable[DeviceId]) -> None:
        """End devices, their tokens, and all that others keep of them. Those that do not exist are passed over."""
        wanted = set(device_ids)
        async with self._db.read() as tx:
            gone = [device_id for device_id in await store.find_ids(tx, user_nid) if device_id in wanted]
        if gone:
            await self._delete(DeviceChange(user_nid, user_id, gone), None)

    async def delete_all(
        self,
        user_nid: int,
        user_id: UserId,
        *,
        but: DeviceId | None = None,
        also: Also | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        """End all devices but one. What `also` adds is written and `entries` are logged in any case, together."""
        async with self._db.read() as tx:
            gone = [device_id for device_id in await store.find_ids(tx, user_nid) if device_id != but]
        await self._delete(DeviceChange(user_nid, user_id, gone), also, entries)

    async def _delete(self, change: DeviceChange, also: Also | None, more: Sequence[Entry] = ()) -> None:
        gone = change.device_ids

        def write(batch: Pipeline, written: Sequence[Written[Any]]) -> None:
            if also is not None:
                also(batch)
            if gone:
                for listener in self._listeners:
                    listener.on_devices_deleted(batch, change, written)
                store.delete_devices(batch, change.user_nid, gone)

        changed = SessionsChanged(change.user_nid, gone[0] if len(gone) == 1 and also is None else None)
        entries = list(more)
        if gone:
            entries += [entry for listener in self._listeners for entry in listener.deletion_entries(change)]
        await self._log.append(changed, *entries, alongside=write)

    async def _row(self, user_nid: int, device_id: DeviceId) -> DeviceRow:
        async with self._db.read() as tx:
            row = await store.find_device(tx, user_nid, device_id)
        if row is None:
            raise NotFound("No such device")
        return row

    def _shown(self, user_nid: int, row: DeviceRow) -> Device:
        seen = self._last_seen.of(user_nid, row.device_id)
        return Device(
            device_id=row.device_id,
            display_name=row.display_name,
            last_seen_ip=(seen.ip or None) if seen else row.last_seen_ip,
            last_seen_ts=seen.at_ms if seen else row.last_seen_ms,
        )

    def _agent(self, user_nid: int, row: DeviceRow) -> str | None:
        seen = self._last_seen.of(user_nid, row.device_id)
        return (seen.agent or None) if seen else row.last_seen_agent
