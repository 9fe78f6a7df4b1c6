"""Resuming cursors together: what many of them lack is found for those that come next, too, before the first of them delivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final, NamedTuple

from homeserver.log.entries import Position
from homeserver.log.readers.cursor import Cursor
from homeserver.log.readers.lanes import Lane
from homeserver.log.readers.types import Behind, Reader, Slice

MOST: Final = 100
"""Cursors that are resumed together."""
MAX_FOUND: Final = 5 * MOST
"""Answers kept for cursors that have not begun; what is dropped is asked for again."""


class _Found(NamedTuple):
    after: Position
    slice: Slice | None


class Resuming:
    """Asks for a cursor that delivers next and for those that will: once for many where the reader can (`resume_together`)."""

    def __init__(self, reader: Reader, cursors: Mapping[str, Cursor], *lanes: Lane) -> None:
        self._reader = reader
        self._cursors = cursors
        self._lanes = lanes
        self._entering: dict[str, None] = {}
        """Keys that wait for an answer."""
        self._found: dict[str, _Found] = {}
        """Answers for keys that have not begun: of those in `_lanes` and `_entering`."""
        self._turn = asyncio.Lock()

    async def of(self, cursor: Cursor, upto: Position) -> Slice | None:
        """What a cursor that has nothing in memory lacks, up to about this position. None: look at everything. Raises what the
        reader does.
        """
        if self._reader.resume is None:
            return None
        if self._reader.resume_together is None:
            return await self._reader.resume(_behind(cursor, upto))
        self._entering[cursor.key] = None
        try:
            async with self._turn:
                found = self._found.pop(cursor.key, None)
                if found is None or found.after != cursor.covered:
                    found = await self._ask(cursor, upto)
        finally:
            self._entering.pop(cursor.key, None)
        return found.slice

    async def _ask(self, cursor: Cursor, upto: Position) -> _Found:
        """For this one, and for others as far as that is done together."""
        assert self._reader.resume is not None
        assert self._reader.resume_together is not None
        keys = list(dict.fromkeys(chain((cursor.key,), islice(self._others(), MOST - 1))))
        asked = [_behind(self._cursors[key], upto) for key in keys]
        if len(asked) == 1:
            return _Found(asked[0].after, await self._reader.resume(asked[0]))
        slices = await self._reader.resume_together(asked)
        first, *others = [_Found(each.after, found) for each, found in zip(asked, slices, strict=False)]
        if len(self._found) > MAX_FOUND:
            self._found.clear()
        self._found.update(zip(keys[1:], others, strict=False))
        return first

    def _others(self) -> Iterator[str]:
        """Keys that will ask, and have no answer yet."""
        for key in chain(self._entering, *(lane.waiting() for lane in self._lanes)):
            cursor = self._cursors[key]
            if not cursor.items and not cursor.whole and key not in self._found:
                yield key


def _behind(cursor: Cursor, upto: Position) -> Behind:
    return Behind(key=cursor.key, after=cursor.covered, upto=upto, failures=cursor.failures)
