"""Doing something once for all who want it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from homeserver.runtime.fair_queue import paused

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TooMany(Exception):
    """More is under way than was allowed."""


class Once(Generic[K, V]):
    """What is under way, by key. It goes on when those who wait for it have gone; `close` ends it."""

    def __init__(self, most: int) -> None:
        """`most`: keys under way at the same time."""
        self._most = most
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of the work that is under way for the key, or else of this one. Raises what it raises, and `TooMany`."""
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._most:
                raise TooMany
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._done(key, done))
        async with paused():
            return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: K, task: asyncio.Task[V]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # who waited has been told, unless they have gone
