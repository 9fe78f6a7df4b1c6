"""Tokens of sync and pagination: one position in the log, `s` and a number. Opaque to clients.

A token stands between two entries: after everything up to its position. Positions of backfilled events are negative.
spec: appendices/#pagination (API-19, API-20)
"""

from __future__ import annotations

import re

from homeserver.matrix.errors import InvalidParam

_TOKEN = re.compile(r"s(-?[0-9]{1,18})", re.ASCII)


def format_token(position: int) -> str:
    """The token after everything up to `position`."""
    return f"s{position}"


def parse_token(token: str, where: str) -> int:
    """The position of a token. Raises `InvalidParam` naming `where`."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam(f"{where}: not a token of this server")
    return int(found[1])
