"""What rooms are found by, folded: remembered, since folding all rooms of a large list anew takes longer than reading it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from homeserver.directory.types import PublishedRoom
from homeserver.matrix.folding import MAX_FOLDED, fold
from homeserver.matrix.ids import RoomId

MAX_CHARACTERS: Final = 16 * 2**20
"""Remembered of all rooms together; some hundreds of each."""
_Texts = tuple[str, str, str]


class FoldedRooms:
    """A bounded cache of rooms' folded names, topics and aliases. Nothing of what was redacted is found: what a room says now
    is compared with what was folded.
    """

    def __init__(self, limit: int = MAX_CHARACTERS) -> None:
        self._limit = limit
        self._size = 0
        self._rooms: OrderedDict[RoomId, tuple[_Texts, str]] = OrderedDict()

    def of(self, room: PublishedRoom) -> str:
        """Name, topic and alias, one a line."""
        texts = (_cut(room.name), _cut(room.topic), _cut(room.canonical_alias))
        known = self._rooms.get(room.room_id)
        if known is not None and known[0] == texts:
            self._rooms.move_to_end(room.room_id)
            return known[1]
        folded = "\n".join(map(fold, texts))
        self._forget(room.room_id)
        self._rooms[room.room_id] = (texts, folded)
        self._size += _size(texts, folded)
        while self._size > self._limit:
            self._forget(next(iter(self._rooms)))
        return folded

    def _forget(self, room_id: RoomId) -> None:
        known = self._rooms.pop(room_id, None)
        if known is not None:
            self._size -= _size(*known)


def _cut(text: str | None) -> str:
    return (text or "")[:MAX_FOLDED]


def _size(texts: _Texts, folded: str) -> int:
    return sum(map(len, texts)) + len(folded)
