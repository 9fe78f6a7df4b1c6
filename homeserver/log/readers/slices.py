"""Entries between two positions as a reader wants them: from memory where it reaches back that far, else from tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice, Source
from homeserver.log.tail import Tail
from homeserver.storage.database import Database

AT_ONCE = 1_000
"""Entries of each source read from its table by one query, and entries of the log taken from memory at once."""


class Slices:
    """Reads the log for one reader; holds nothing."""

    def __init__(self, db: Database, tail: Tail, sources: Sequence[Source[Any]]) -> None:
        self._db = db
        self._tail = tail
        self._sources = {source.entry_type: source for source in sources}

    async def read(self, after: Position, upto: Position) -> Slice:
        """The next entries in (after, upto], as many as are read at once; `upto` of the answer says how far it goes.

        Only for `upto` up to the tail's position. Raises `psycopg.Error`, `StorageError`.
        """
        if after >= upto:
            return Slice((), upto)
        if after >= self._tail.floor:
            return self._from_memory(after, upto)
        return await self._from_tables(after, upto)

    def _from_memory(self, after: Position, upto: Position) -> Slice:
        items: list[Item[Any]] = []
        for count, (position, entry) in enumerate(self._tail.since(after), 1):
            if position > upto:
                break
            source = self._sources.get(type(entry))
            value = source.take(entry) if source is not None else None
            if value is not None:
                items.append(Item(position, value))
            if count >= AT_ONCE and position < upto:
                return Slice(items, position)
        return Slice(items, upto)

    async def _from_tables(self, after: Position, upto: Position) -> Slice:
        items: list[Item[Any]] = []
        async with self._db.read() as tx:
            for source in self._sources.values():
                found = await source.read(tx, after, upto, AT_ONCE)
                # Beyond its end nothing is known of this source: nothing later is told yet.
                upto = min(upto, found.upto)
                items += found.items
        return Slice(sorted((item for item in items if item.position <= upto), key=_position), upto)


def _position(item: Item[Any]) -> Position:
    return item.position
