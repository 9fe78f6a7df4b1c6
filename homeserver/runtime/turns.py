"""Long computations take turns: in each turn of the event loop one of them goes on, and everybody who needs little goes on as well.

Whoever computes for more than some milliseconds does so in pieces, with `await next_turn()` between them. `asyncio.sleep(0)` lets
others go on, too; but of two hundred who begin together each would then go on in every turn of the loop, and a message beside them
would wait for two hundred pieces at each of its steps. Here it waits for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


class _Queue:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._new_future = loop.create_future
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    def join(self) -> asyncio.Future[None]:
        future = self._new_future()
        self._waiting.append(future)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._call_next)
        return future

    def _call_next(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():  # it may have been cancelled
                future.set_result(None)
                break
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            self._call_soon(self._call_next)


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()


async def next_turn() -> None:
    """Returns when all other long computations that wait have had a turn, and everything else that was ready as well.

    To be awaited before a piece of work of some milliseconds, by who holds no database connection that others may wait for.
    """
    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = _queues[loop] = _Queue(loop)
    await queue.join()


class Steps:
    """Counts what one computation does in a turn, in whatever lists it stands: others have a turn after `most` steps."""

    __slots__ = ("_done", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._done = 0

    def full(self, steps: int) -> bool:
        """Whether so many steps more are too many for this turn: they are counted for the next one, to be awaited with
        `next_turn`. What alone is more than a turn's may be done in one.
        """
        done, self._done = self._done, self._done + steps
        if self._done <= self._most or not done:
            return False
        self._done = steps
        return True


def pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, some at a time: what is done between two turns. Nothing if there are none."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


async def in_turns(parts: Iterable[T]) -> AsyncIterator[T]:
    """The parts; others have a turn between them."""
    for number, part in enumerate(parts):
        if number:
            await next_turn()
        yield part


async def merged(
    items: Collection[K], size: int, find: Callable[[Collection[K]], Awaitable[dict[K, V]]]
) -> dict[K, V]:
    """What `find` gives for all items. Of more than `size` it is asked for some at a time, and others have a turn between."""
    if len(items) <= size:
        return await find(items)
    found: dict[K, V] = {}
    for some in pieces(list(items), size):
        await next_turn()
        found |= await find(some)
    return found
