"""Changes of keys as log entries, and their sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from typing_extensions import override

from homeserver.e2ee import store
from homeserver.e2ee.one_time_store import find_packs
from homeserver.e2ee.uploads import Unchanged, Unread, Upload
from homeserver.log.entries import Append, Conflict, Entry, Refused, StructSink, Written
from homeserver.matrix.errors import InvalidParam
from homeserver.storage.tx import Pipeline

MAX_DEVICES: Final = 50
"""Of one entry: more are told in several."""


class DeviceListEntry(Entry, frozen=True):
    """A user's devices, their keys, or the user's cross-signing keys look different now."""

    user_nid: int
    user_id: str
    seen_by: int | None = None
    """The user_nid to whom alone they look different; None: to everybody who may see them."""
    devices: tuple[str, ...] | None = None
    """Those that look different, at most `MAX_DEVICES`; empty: the cross-signing keys do. None: it is not known."""


def of_devices(user_nid: int, user_id: str, device_ids: Sequence[str]) -> list[DeviceListEntry]:
    """Entries that say that these devices look different, or are no more."""
    return [
        DeviceListEntry(user_nid, user_id, devices=tuple(device_ids[first : first + MAX_DEVICES]))
        for first in range(0, len(device_ids), MAX_DEVICES)
    ]


class DeviceListSink(StructSink[DeviceListEntry]):
    """Into `device_list_changes`."""

    kind = "device_list"
    entry_type = DeviceListEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[DeviceListEntry]]) -> None:
        store.insert_changes(
            batch, [store.ChangeRow(position, e.user_nid, e.seen_by, e.devices) for position, e in written]
        )


class RemoteListsEntry(Entry, frozen=True):
    """What is kept of other servers' users may be wrong from now on; to clients it is no news."""

    users: Sequence[tuple[int, str]]
    """(user_nid, user_id)"""


class RemoteListsSink(StructSink[RemoteListsEntry]):
    """Nothing but the feed: the table is written alongside."""

    kind = "remote_lists"
    entry_type = RemoteListsEntry


class KeyCountEntry(Entry, frozen=True):
    """How many keys of a device wait to be claimed is another number now."""

    user_nid: int
    device_id: str
    upload: Upload | None = None
    """One-time keys that come with it. Known to the process that writes them alone."""


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
    """Nothing but the feed: the tables are written alongside. Before, under the lock, uploads meet what is there."""

    kind = "key_count"
    entry_type = KeyCountEntry

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """A query for each upload; of each device one is written, others are to try again."""
        uploads = [
            (number, entry.upload)
            for number, append in enumerate(appends)
            for entry in append.entries
            if isinstance(entry, KeyCountEntry) and entry.upload is not None
        ]
        packs = [
            find_packs(batch, each.user_nid, each.device_id, [key.key_id for key in each.keys])
            for _, each in uploads
        ]

        def meet(refused: Refused) -> Refused:
            found: Refused = {}
            met: set[tuple[int, str]] = set()
            for (number, upload), there in zip(uploads, packs, strict=True):
                device = (upload.user_nid, upload.device_id)
                if number in refused:
                    continue
                if device in met:
                    found[number] = Conflict("another upload of the device comes first")
                    continue
                try:
                    upload.meet(there.result)
                except (InvalidParam, Unchanged, Unread) as why:
                    found[number] = why
                else:
                    met.add(device)
            return found

        return meet

    def undo(self, appends: Sequence[Append]) -> None:
        """What was decided is decided anew with the next try."""

    @override
    def encode(self, entry: KeyCountEntry) -> bytes:
        return msgspec.msgpack.encode({"user_nid": entry.user_nid, "device_id": entry.device_id})
