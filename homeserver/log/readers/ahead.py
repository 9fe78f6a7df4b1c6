"""Preparing deliveries together: what many cursors need is had for those that come next, too, before the first of them delivers."""

from __future__ import annotations

import asyncio
from itertools import chain, islice
from typing import Final

import structlog

from homeserver.log.readers.lanes import Lane
from homeserver.log.readers.types import Reader

log = structlog.get_logger(__name__)

MOST: Final = 200
"""Keys that are prepared together."""


class Ahead:
    """Calls `Reader.prepare` for a delivery that begins and for those that will, once for many."""

    def __init__(self, reader: Reader, *lanes: Lane) -> None:
        self._reader = reader
        self._lanes = lanes
        self._entering: dict[str, None] = {}
        """Keys that wait to be prepared."""
        self._prepared: set[str] = set()
        """Keys that were prepared with others and have not begun."""
        self._turn = asyncio.Lock()

    async def prepare(self, key: str) -> None:
        """Before a delivery. What cannot be prepared, the delivery has to find by itself: raises nothing."""
        if self._reader.prepare is None:
            return
        self._entering[key] = None
        try:
            async with self._turn:
                if key not in self._prepared:
                    waiting = chain(self._entering, *(lane.waiting() for lane in self._lanes))
                    keys = list(dict.fromkeys((key, *islice(waiting, MOST))))
                    await self._reader.prepare(keys)
                    self._prepared.update(keys)
        except Exception as error:  # noqa: BLE001  # the delivery finds out
            log.warning("reader.not_prepared", reader=self._reader.name, error=type(error).__name__)
        finally:
            self._entering.pop(key, None)
            self._prepared.discard(key)
