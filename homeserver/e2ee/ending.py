"""What of keys ends with a device, and who hears of it (E2E-13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.devices.types import DeviceChange
from homeserver.e2ee import store
from homeserver.e2ee.entries import KeyCountEntry, of_devices
from homeserver.log.entries import Entry, Written
from homeserver.storage.tx import Pipeline


class DeviceEnding:
    """Fulfils `devices.types.DeviceListener`; knows nothing, so that commands can use it too."""

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]:
        counts = (KeyCountEntry(change.user_nid, device_id) for device_id in change.device_ids)
        # The counts too: a device that is made again under the same id starts without keys.
        return (*of_devices(change.user_nid, change.user_id, change.device_ids), *counts)

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """Keys and signatures go with their devices (E2E-13)."""
        del written
        store.delete_of_devices(batch, change.user_nid, change.device_ids)

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]:
        return of_devices(change.user_nid, change.user_id, change.device_ids)

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """The name is read with the keys."""
