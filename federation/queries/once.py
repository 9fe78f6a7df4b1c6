"""Questions to other servers that are asked once for all who want the answer, and whose answers are kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from homeserver.matrix.errors import MatrixError, Unavailable
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
FAILURE_BYTES = 500


class Kept(NamedTuple):
    """For how long an answer counts, in seconds, and how many are asked for at the same time."""

    found: float
    failed: float
    at_once: int


class _Answer(NamedTuple, Generic[V]):
    asked: float
    until: float
    value: V | None = None
    error: MatrixError | None = None
    again: bool = False
    """A refusal that came after another one: it counts as long as it is kept, whatever happens."""


class AskedOnce(Generic[K, V]):
    """Owns a bounded cache of answers, refusals among them, and the questions under way in this process."""

    def __init__(self, memory: MemoryBudget, name: str, share: float, clock: Clock, kept: Kept) -> None:
        self._answers: Cache[K, _Answer[V]] = memory.cache(name, share)
        self._clock = clock
        self._kept = kept
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(
        self,
        key: K,
        ask: Callable[[], Awaitable[V]],
        size: Callable[[V], int],
        *,
        changed: float = float("-inf"),
    ) -> V:
        """The answer: a kept one, that of who asks already, or a new one. `size`: bytes of an answer in memory.

        `changed`: when something happened after which a refusal may be none (monotonic seconds of the clock): what was asked
        for before is asked for once more, and then not until the second refusal is as old as refusals are kept.

        Raises what `ask` raises, if it is a `MatrixError` for as long as failures are kept; `Unavailable` when too much is
        being asked.
        """
        known = self._answers.get(key)
        if known is not None and known.until > self._clock.monotonic():
            if known.value is not None:
                return known.value
            if known.error is not None and (known.again or known.asked > changed):
                raise known.error.with_traceback(None)
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= self._kept.at_once:
                raise Unavailable("Too much is asked of other servers at the moment")
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask, size))
            task.add_done_callback(lambda done: self._done(key, done))
        async with paused():
            return await asyncio.shield(task)

    async def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]], size: Callable[[V], int]) -> V:
        began, before = self._clock.monotonic(), self._answers.get(key)
        try:
            value = await ask()
        except MatrixError as error:
            again = before is not None and before.error is not None and before.until > began
            until = self._clock.monotonic() + self._kept.failed
            self._answers.put(key, _Answer[V](began, until, error=error, again=again), FAILURE_BYTES)
            raise
        found = _Answer(began, self._clock.monotonic() + self._kept.found, value)
        self._answers.put(key, found, size(value))
        return value

    def _done(self, key: K, task: asyncio.Task[V]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # who asked has been told, unless they have gone
