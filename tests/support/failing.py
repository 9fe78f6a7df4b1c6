"""A log that fails while a test says so, as if its database were away or refused an entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.log.entries import Entry
from homeserver.log.writer import LogWriter


class FailingLog(LogWriter):
    """Writes to another log, but what `fails` gives an exception for."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self.fails: Callable[[Entry], Exception | None] = lambda _: None
        self.failed = 0

    async def append(self, *entries: Entry, **more: Any) -> range:
        for entry in entries:
            if error := self.fails(entry):
                self.failed += 1
                raise error
        return await self._log.append(*entries, **more)
