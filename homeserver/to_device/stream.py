"""To-device messages in `/sync`: a message is deleted only when its device has come back with a token from after it.

spec: client-server-api/#send-to-device-messaging (SYNC-18)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from homeserver.devices.types import DeviceChange
from homeserver.log.entries import Entry, Position, Written
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest
from homeserver.to_device import store
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.to_device.service import PAGE

MAX_DEVICES = 50_000
MUCH = 256 * 2**20
"""Bytes that come for all devices together, after which their queues are looked at."""


class Waiting:
    """What waits for a device."""

    __slots__ = ("first", "last")

    def __init__(self, first: Position, last: Position) -> None:
        self.first = first
        """Of the oldest message not deleted; 0: there is none."""
        self.last = last


class ToDeviceStream:
    """The to-device stream of `/sync`; also the projection of which devices have something waiting, a bounded cache."""

    always_asked = True
    """A token that comes back says that messages have arrived, whether there are new ones or not."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._devices: OrderedDict[tuple[int, str], Waiting] = OrderedDict()
        self._loading: dict[tuple[int, str], Waiting] = {}
        """What has arrived for devices whose messages are being looked up."""
        self._arrived_bytes = 0
        """Of all messages for any device since `take_much` was last asked."""
        self.much_came = asyncio.Event()
        """Set when these are more than `MUCH`."""

    # --- the projection --------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {ToDeviceEntry: self._arrived}

    def reset(self) -> None:
        self._devices.clear()
        self._loading.clear()

    def _arrived(self, position: Position, entry: ToDeviceEntry) -> None:
        self._arrived_bytes += len(entry.message)
        if self._arrived_bytes > MUCH:
            self.much_came.set()
        key = (entry.user_nid, entry.device_id)
        for waiting in (self._devices.get(key), self._loading.get(key)):
            if waiting is not None:
                waiting.first = waiting.first or position
                waiting.last = position

    def take_much(self) -> bool:
        """Whether more than `MUCH` bytes have come since this last was so."""
        much = self._arrived_bytes > MUCH
        if much:
            self._arrived_bytes = 0
        return much

    async def _waiting(self, user_nid: int, device_id: str) -> Waiting:
        key = (user_nid, device_id)
        while (found := self._devices.get(key)) is None:
            arrived = self._loading.setdefault(key, Waiting(0, 0))
            async with self._db.read() as tx, tx.pipeline() as batch:
                bounds = store.find_bounds(batch, user_nid, device_id)
            first, last = bounds.result or (0, 0)
            if self._loading.get(key) is arrived:  # else another request has read it, or entries were missed
                del self._loading[key]
                self._devices[key] = Waiting(first or arrived.first, max(last, arrived.last))
                if len(self._devices) > MAX_DEVICES:
                    self._devices.popitem(last=False)
        return found

    # --- the stream ------------------------------------------------------------------------------------------------

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {ToDeviceEntry: lambda entry: Recipients((entry.user_nid,))}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        del rooms
        requester = request.requester
        if requester.device_id is None:
            return NO_NEWS
        waiting = await self._waiting(requester.user_nid, requester.device_id)
        if waiting.first and waiting.first <= request.to_device:
            await self._delete(requester.user_nid, requester.device_id, request.to_device, waiting)
        if not waiting.first or waiting.last <= request.to_device:
            return NO_NEWS
        async with self._db.read() as tx:
            shown = await store.find(
                tx, requester.user_nid, requester.device_id, request.to_device, request.upto, PAGE
            )
        if not shown:
            return NO_NEWS
        part = Part(top={"to_device": b'{"events":[%b]}' % b",".join(message for _, message in shown)})
        if len(shown) == PAGE.messages or sum(len(message) for _, message in shown) >= PAGE.size:
            part.to_device = shown[-1][0]  # there may be more
        return part

    async def _delete(self, user_nid: int, device_id: str, upto: Position, waiting: Waiting) -> None:
        """The device has got everything up to here. One flight to the database."""
        last = waiting.last
        bounds = None
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            store.delete_upto(batch, user_nid, device_id, upto)
            if upto < last:  # else nothing is left of what was
                bounds = store.find_bounds(batch, user_nid, device_id)
        first, _ = (bounds.result if bounds is not None else None) or (0, 0)
        # What arrived while we looked is either seen or newer than all that was.
        waiting.first = first or (waiting.last if waiting.last > last else 0)

    # --- devices ---------------------------------------------------------------------------------------------------

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """Devices end: nothing waits for them any more (E2E-13)."""
        del written
        store.delete_of_devices(batch, change.user_nid, change.device_ids)
        for device_id in change.device_ids:
            self._devices.pop((change.user_nid, device_id), None)

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]:
        del change
        return ()

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """Of no concern."""

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]:
        del change
        return ()
