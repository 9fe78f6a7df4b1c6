"""The rooms that a space names: which of its `m.space.child` events count, and their order. Pure.

spec: client-server-api/#mspacechild, #ordering-of-children-within-a-space (CHECKLIST SPACE-01, SPACE-03)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from homeserver.matrix.ids import RoomId, ServerName, is_room_id, is_server_name
from homeserver.spaces.types import Child, ChildState

MAX_VIA: Final = 5
"""Servers of one child that may be asked."""
_ORDER: Final = re.compile(r"[\x20-\x7e]{1,50}", re.ASCII)


def read_child(state: ChildState, content: Mapping[str, Any]) -> Child | None:
    """None where the event names no child: what is named is no room, or `via` is not a list of servers."""
    via = content.get("via")
    if not is_room_id(state.state_key) or not isinstance(via, list) or not via:
        return None
    if not all(isinstance(server, str) for server in via):
        return None
    order = content.get("order")
    return Child(
        room_id=RoomId(state.state_key),
        via=tuple(ServerName(server) for server in via if is_server_name(server))[:MAX_VIA],
        suggested=content.get("suggested") is True,
        order=order if isinstance(order, str) and _ORDER.fullmatch(order) else "",
        state=state,
    )


def in_order(children: Iterable[Child], *, suggested_only: bool) -> list[Child]:
    """Those that are looked at, sorted."""
    wanted = (child for child in children if child.suggested or not suggested_only)
    return sorted(wanted, key=lambda child: child.place)
