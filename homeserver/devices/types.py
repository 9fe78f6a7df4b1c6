"""Devices as values, and what other features learn of their ending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from homeserver.log.entries import Entry, Written
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.storage.tx import Pipeline


class DeviceRow(NamedTuple):
    """A device as stored."""

    device_id: DeviceId
    display_name: str | None
    last_seen_ms: int | None
    last_seen_ip: str | None
    last_seen_agent: str | None


class NewDevice(NamedTuple):
    """A device that is to be made without anybody logging in."""

    device_id: DeviceId
    display_name: str | None


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """As clients see their own. spec: client-server-api/#device-management"""

    device_id: DeviceId
    display_name: str | None = None
    last_seen_ip: str | None = None
    last_seen_ts: int | None = None


class DeviceChange(NamedTuple):
    """Devices of a local user that end, or whose name changed."""

    user_nid: int
    user_id: UserId
    device_ids: Sequence[DeviceId]


class DeviceListener(Protocol):
    """A feature that keeps something per device (keys, to-device messages, pushers).

    Both methods of a pair are called for one append: what `…_entries` returns is logged with it, what `on_…` adds runs
    in the same transaction. Results of the statements can not be looked at.
    """

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]: ...

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """`written`: all entries of the append with their positions. Runs before the devices' rows go."""
        ...

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]: ...

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None: ...
