"""Changes of keys as log entries, and their sinks."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.e2ee import store
from homeserver.log.entries import Entry, StructSink, Written
from homeserver.storage.tx import Pipeline


class DeviceListEntry(Entry, frozen=True):
    """A user's devices, their keys, or the user's cross-signing keys look different now."""

    user_nid: int
    user_id: str
    seen_by: int | None = None
    """The user_nid to whom alone they look different; None: to everybody who may see them."""


class DeviceListSink(StructSink[DeviceListEntry]):
    """Into `device_list_changes`."""

    kind = "device_list"
    entry_type = DeviceListEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[DeviceListEntry]]) -> None:
        store.insert_changes(batch, [(position, e.user_nid, e.seen_by) for position, e in written])


class KeyCountEntry(Entry, frozen=True):
    """How many keys of a device wait to be claimed is another number now."""

    user_nid: int
    device_id: str


class KeysClaimedEntry(Entry, frozen=True):
    """Keys of devices were claimed: what waits of them is another number now."""

    devices: Sequence[tuple[int, str]]
    """(user_nid, device_id)"""


class KeysClaimedSink(StructSink[KeysClaimedEntry]):
    """Nothing but the feed: the tables are written alongside."""

    kind = "keys_claimed"
    entry_type = KeysClaimedEntry


class KeysSpentEntry(Entry, frozen=True):
    """No one-time key of any device waits any more: the database was restored from a backup."""


class KeysSpentSink(StructSink[KeysSpentEntry]):
    """Nothing but the feed: the tables are written alongside."""

    kind = "keys_spent"
    entry_type = KeysSpentEntry


class KeyCountSink(StructSink[KeyCountEntry]):
    """Nothing but the feed: the tables are written alongside."""

    kind = "key_count"
    entry_type = KeyCountEntry
