"""Events of a sync in the form the client's filter asks for.

spec: client-server-api/#filtering `event_fields`, `event_format` (FILT-03, FILT-10)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from homeserver.graph.persisted_event import Reader
from homeserver.graph.read.page_size import weight
from homeserver.graph.read.visibility import Visible
from homeserver.matrix import json
from homeserver.matrix.property_path import split_path
from homeserver.runtime.turns import Steps, next_turn, pieces
from homeserver.sync.types import SyncRequest

WRITING_STEPS: Final = 500
"""Events that are written in one turn; a large one counts once for each `STEP_BYTES` of it."""
STEP_BYTES: Final = 4_096
PIECE: Final = 50


def writing_steps(events: Iterable[Visible]) -> int:
    """How much it is to write them."""
    return sum(1 + weight(visible.persisted) // STEP_BYTES for visible in events)


class Renderer:
    """For one request."""

    def __init__(self, request: SyncRequest) -> None:
        self._reader = Reader(request.requester.user_nid, request.requester.device_id)
        self._now_ms = request.now_ms
        self._federation = request.filter.event_format == "federation"
        fields = request.filter.event_fields
        self._paths = None if fields is None else [split_path(path) for path in dict.fromkeys(fields)]

    def event(self, visible: Visible, extra: bytes = b"") -> bytes:
        """One event as JSON, without `room_id`. `extra`: further members of `unsigned`, each with a leading comma."""
        if self._federation:
            rendered = visible.persisted.event.pdu
        else:
            rendered = visible.persisted.render(
                self._reader, visible.membership, self._now_ms, previous=visible.previous, extra=extra
            )
        if self._paths is None:
            return rendered
        return json.dumps(_only(json.loads(rendered), self._paths))

    async def in_turns(self, events: Sequence[Visible], steps: Steps) -> list[bytes]:
        """Each as `event` gives it; others have a turn between. `steps`: of the whole answer, `WRITING_STEPS` in a turn."""
        written: list[bytes] = []
        for some in pieces(events, PIECE):
            if steps.full(writing_steps(some)):
                await next_turn()
            written += map(self.event, some)
        return written


def _only(event: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    """The event with just these properties."""
    result: dict[str, Any] = {}
    for path in paths:
        source: Any = event
        target = result
        for step in path[:-1]:
            if not isinstance(source, Mapping):
                break
            source = source.get(step)
        if not isinstance(source, Mapping) or path[-1] not in source:
            continue
        for step in path[:-1]:
            target = target.setdefault(step, {})
        target[path[-1]] = source[path[-1]]
    return result
