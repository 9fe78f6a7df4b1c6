"""A message to one device as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.log.entries import Entry, StructSink, Written
from homeserver.storage.tx import Pipeline
from homeserver.to_device import store


class ToDeviceEntry(Entry, frozen=True):
    """One message for one device."""

    user_nid: int
    device_id: str
    message: bytes
    """The event as JSON: `type`, `sender`, `content`."""
    perishable: bool = False
    """Of little use when it is old: it goes first when too much waits."""


class ToDeviceSink(StructSink[ToDeviceEntry]):
    """Into `to_device`."""

    kind = "to_device"
    entry_type = ToDeviceEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[ToDeviceEntry]]) -> None:
        store.insert(
            batch, [(e.user_nid, e.device_id, position, e.message, e.perishable) for position, e in written]
        )
