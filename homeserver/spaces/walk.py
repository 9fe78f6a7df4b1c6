"""How far somebody has come in a hierarchy: depth first, each room once. Pure.

spec: op:getSpaceHierarchy (CHECKLIST SPACE-01)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeserver.matrix.ids import RoomId, ServerName
from homeserver.spaces.types import Child, Options

MAX_ROOMS: Final = 10_000
"""Rooms of one hierarchy that are looked at or wait to be."""
MAX_BYTES: Final = 2**20
"""Of the names of rooms and servers that wait."""


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A room that is to be looked at."""

    room_id: RoomId
    depth: int
    via: tuple[ServerName, ...]

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 16 + len(self.room_id) + sum(map(len, self.via))


class Walk(msgspec.Struct, array_like=True):
    """Changes as the walk goes on; what a token names is written down before that."""

    root: RoomId
    options: Options
    waiting: list[Step]
    """The next one last."""
    seen: set[RoomId]
    size: int = 0
    """Bytes of what has ever waited, about."""

    @classmethod
    def begin(cls, room_id: RoomId, via: Sequence[ServerName], options: Options) -> Walk:
        """At the room itself."""
        return cls(room_id, options, [Step(room_id, 0, tuple(via))], set())

    def ahead(self, most: int) -> list[Step]:
        """The next ones, each room once."""
        found: dict[RoomId, Step] = {}
        for step in reversed(self.waiting):
            if len(found) == most:
                break
            if step.room_id not in self.seen:
                found.setdefault(step.room_id, step)
        return list(found.values())

    def take(self) -> Step | None:
        """The next room that was not looked at; None at the end. It counts as looked at."""
        while self.waiting:
            step = self.waiting.pop()
            if step.room_id not in self.seen:
                self.seen.add(step.room_id)
                return step
        return None

    def descend(self, step: Step, children: Sequence[Child]) -> None:
        """The children of a room come next, if they are not too deep. What exceeds the bounds is left out."""
        if step.depth >= self.options.max_depth:
            return
        steps: list[Step] = []
        for child in children:
            if child.room_id in self.seen:
                continue
            below = Step(child.room_id, step.depth + 1, child.via)
            if (
                len(self.seen) + len(self.waiting) + len(steps) >= MAX_ROOMS
                or self.size + below.size > MAX_BYTES
            ):
                break
            self.size += below.size
            steps.append(below)
        self.waiting.extend(reversed(steps))


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Walk).decode
