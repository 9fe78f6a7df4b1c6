"""Lazily loaded members: which member events a device has been given already.

A member event counts as given only when the client has come back with the token of the answer that held it.
spec: client-server-api/#lazy-loading-room-members (FILT-04)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

MAX_DEVICES = 2_000
MAX_PER_DEVICE = 20_000

Given = set[tuple[int, int]]
"""(room_nid, event_nid of the member event)."""


@dataclass(slots=True)
class _Device:
    acknowledged: Given = field(default_factory=set)
    sent: OrderedDict[Hashable, Given] = field(default_factory=OrderedDict)


class GivenMembers:
    """Which member events each device has been given; a bounded cache: what it does not know is sent again."""

    def __init__(self) -> None:
        self._devices: OrderedDict[tuple[int, str], _Device] = OrderedDict()

    def acknowledged(self, user_nid: int, device_id: str, since: Hashable | None) -> Given:
        """What the device has surely got, it having come back with the token `since`."""
        key = (user_nid, device_id)
        if since is None:
            self._devices.pop(key, None)
            return set()
        device = self._devices.get(key)
        if device is None:
            return set()
        self._devices.move_to_end(key)
        arrived = device.sent.pop(since, None)
        if arrived:
            device.acknowledged |= arrived
            if len(device.acknowledged) > MAX_PER_DEVICE:
                device.acknowledged.clear()
        return device.acknowledged

    def sent(self, user_nid: int, device_id: str, token: Hashable, members: Given) -> None:
        """These are in the answer with that token."""
        if not members:
            return
        device = self._devices.setdefault((user_nid, device_id), _Device())
        device.sent.setdefault(token, set()).update(members)
        while len(device.sent) > 4:
            device.sent.popitem(last=False)
        if len(self._devices) > MAX_DEVICES:
            self._devices.popitem(last=False)
