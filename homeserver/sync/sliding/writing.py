"""JSON of sliding sync, put together of parts that are JSON already."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from homeserver.matrix import json


@lru_cache(maxsize=4_096)
def quoted(name: str) -> bytes:
    """A name as JSON: of a member, or the id of a room."""
    return json.dumps(name)


def json_object(members: Mapping[str, bytes]) -> bytes:
    """An object of members that are JSON."""
    return b"{%b}" % b",".join([b"%b:%b" % (quoted(name), value) for name, value in members.items()])
