"""Which version of a user's device list a change makes, as other servers know it: a number for each device of a change.

spec: server-server-api/#device-management (FED-30)
"""

from __future__ import annotations

from typing import Final

from homeserver.e2ee.entries import MAX_DEVICES
from homeserver.log.entries import Position

PER_CHANGE: Final = 64
"""Numbers that one change has; a log of 2^46 entries has numbers that JSON can carry."""
assert PER_CHANGE >= MAX_DEVICES


def stream_id(position: Position, number: int) -> int:
    """Of the `number`th device (from 0) of the change that stands at a position of the log."""
    return position * PER_CHANGE + number


def last_stream_id(change: tuple[Position, int] | None) -> int | None:
    """Of the last device of a change: (position, number of devices). None: there was no change."""
    return None if change is None else stream_id(change[0], change[1] - 1)
