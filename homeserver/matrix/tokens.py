"""Tokens of sync and pagination: one position in the log, `s` and a number. Opaque to clients.

A token stands between two entries: after everything up to its position. Positions of backfilled events are negative.
A sync token may have a second number: how far the device's to-device messages were given, where there were more of
them than fit into the answer; and a third: how far profiles were told (MSC4429), where these were too many. Pagination takes
sync tokens too and does not look at that.
spec: appendices/#pagination (API-19, API-20)
"""

from __future__ import annotations

import re
from typing import NamedTuple

from homeserver.matrix.errors import InvalidParam

_TOKEN = re.compile(r"s(-?[0-9]{1,18})(?:_([0-9]{1,18})(?:_([0-9]{1,18}))?)?", re.ASCII)

_POS = re.compile(r"s([0-9]{1,18})~[0-9a-f]{1,16}", re.ASCII)


class SyncToken(NamedTuple):
    """Where a device is."""

    position: int
    """Everything up to here was in the answer."""
    to_device: int
    """To-device messages up to here were; usually the same."""
    profiles: int | None = None
    """Profiles of users after this one (user_nid) have still to be told; None: none."""


def format_token(position: int) -> str:
    """The token after everything up to `position`."""
    return f"s{position}"


def format_sync_token(token: SyncToken) -> str:
    """The token of a sync's answer."""
    position, to_device, profiles = token
    if profiles is not None:
        return f"s{position}_{to_device}_{profiles}"
    return f"s{position}" if to_device == position else f"s{position}_{to_device}"


def parse_token(token: str, where: str) -> int:
    """The position of a token, also of sliding sync (MSC4186: its `pos` is one). Raises `InvalidParam` naming `where`."""
    if found := _POS.fullmatch(token):
        return int(found[1])
    return parse_sync_token(token, where).position


def parse_sync_token(token: str, where: str) -> SyncToken:
    """Raises `InvalidParam` naming `where`."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam(f"{where}: not a token of this server")
    position = int(found[1])
    to_device = int(found[2]) if found[2] else position
    return SyncToken(position, to_device, int(found[3]) if found[3] else None)
