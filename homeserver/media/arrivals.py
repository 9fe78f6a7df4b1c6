"""Waiting for files whose address is known before they are uploaded.

spec: op:getContentAuthed (`timeout_ms`), CHECKLIST MEDIA-07
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused

T = TypeVar("T")

_LOOK_AGAIN: Final = 1.0
"""Seconds between looks for what came in at another process."""


class Arrivals:
    """Who waits for what in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._closing = False

    def close(self) -> None:
        """The server stops: whoever waits looks one last time."""
        self._closing = True
        for events in list(self._waiting.values()):
            for event in events:
                event.set()

    def arrived(self, media_nid: int) -> None:
        """Wake who waits for a file."""
        for event in self._waiting.get(media_nid, ()):
            event.set()

    async def wait(self, media_nid: int, seconds: float, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `look` finds once it finds something; None after so many seconds."""
        deadline = self._clock.monotonic() + seconds
        event = asyncio.Event()
        self._waiting[media_nid].add(event)
        try:
            while (found := await look()) is None:
                left = deadline - self._clock.monotonic()
                if left <= 0 or self._closing:
                    return None
                with contextlib.suppress(TimeoutError):
                    async with paused(), asyncio.timeout(min(left, _LOOK_AGAIN)):
                        await event.wait()
                event.clear()
            return found
        finally:
            self._waiting[media_nid].discard(event)
            if not self._waiting[media_nid]:
                del self._waiting[media_nid]
