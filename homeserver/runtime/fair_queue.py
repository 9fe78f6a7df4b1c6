"""Fairness: of the requests of one user (or server) only some are worked on at a time; the others wait behind them.

Whoever asks for a thousand things at once would otherwise have a thousand tasks in each turn of the event loop and before each
database connection, and everybody else would wait for all of them at each step. A request that waits for something slow (news, the
answer of another server) lets the next one go on meanwhile: see `paused`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

from homeserver.runtime import request_context

TURN_SECONDS: Final = 0.005


class FairQueue:
    """Counts what is worked on by key, and lets keys take turns.

    Within a key: first come, first served, and no more than so many at a time. Between keys: while requests come faster than they
    are worked on, each turn of the event loop lets one more begin, of one key after the other; so one turn is never longer than one
    request, whether or not that waits for anything.
    """

    def __init__(self, at_once: int, turn_seconds: float = TURN_SECONDS) -> None:
        """`at_once`: requests of one key. `turn_seconds`: a turn of the loop that has lasted so long begins no further request."""
        self._at_once = at_once
        self._turn_seconds = turn_seconds
        self._working: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """The key whose turn is next comes first. Those that have as many at work as they may are in `_full` meanwhile."""
        self._full: dict[str, deque[asyncio.Future[None]]] = {}
        self._turn_began: float | None = None
        self._scheduled = False
        self.waited = 0
        """Requests that had to wait since the start."""

    async def enter(self, key: str) -> None:
        """Returns when it is this one's turn; `leave` must follow."""
        working = self._working.get(key, 0)
        if working < self._at_once and not self._waiting and self._room_in_turn():
            self._working[key] = working + 1
            return
        self.waited += 1
        turn = asyncio.get_running_loop().create_future()
        if (full := self._full.get(key)) is not None:
            full.append(turn)
        else:
            self._waiting.setdefault(key, deque()).append(turn)
            self._schedule()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(key)
            raise

    def enter_at_once(self, key: str) -> None:
        """As `enter`, without waiting, however many there are: for who may hold what others of the key wait for."""
        self._working[key] = self._working.get(key, 0) + 1

    def leave(self, key: str) -> None:
        """Done: the next goes on."""
        left = self._working[key] - 1
        if left:
            self._working[key] = left
        else:
            del self._working[key]
        if left < self._at_once and (full := self._full.pop(key, None)) is not None:
            self._waiting[key] = full
        if self._waiting:
            self._schedule()

    def __len__(self) -> int:
        """Requests that are worked on."""
        return sum(self._working.values())

    def _room_in_turn(self) -> bool:
        now = perf_counter()
        if self._turn_began is None:
            self._turn_began = now
            asyncio.get_running_loop().call_soon(self._turn_ends)
            return True
        return now - self._turn_began < self._turn_seconds

    def _turn_ends(self) -> None:
        self._turn_began = None

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._let_one_begin)

    def _let_one_begin(self) -> None:
        self._scheduled = False
        while self._waiting:
            key = next(iter(self._waiting))
            waiting = self._waiting.pop(key)
            if self._working.get(key, 0) >= self._at_once:
                self._full[key] = waiting
                continue
            while waiting and waiting[0].done():  # cancelled
                waiting.popleft()
            if not waiting:
                continue
            waiting.popleft().set_result(None)
            self._working[key] = self._working.get(key, 0) + 1
            if waiting:
                self._waiting[key] = waiting  # behind the others
            if self._waiting:
                self._schedule()
            return


class Place:
    """What one request has of the queue, to be given up while it waits for something else."""

    __slots__ = ("_queue", "_key", "_pauses", "_ended")

    def __init__(self, queue: FairQueue, key: str) -> None:
        """The queue was entered."""
        self._queue = queue
        self._key = key
        self._pauses = 0
        self._ended = False

    def pause(self) -> None:
        """Give it up, until `resume` was called as often."""
        self._pauses += 1
        if self._pauses == 1 and not self._ended:
            self._queue.leave(self._key)

    def resume(self) -> None:
        """Have it again, at once."""
        self._pauses -= 1
        if not self._pauses and not self._ended:
            self._queue.enter_at_once(self._key)

    async def resume_in_turn(self) -> None:
        """Have it again when it is this one's turn. For the request's own task, where it holds nothing that others wait for."""
        await self._queue.enter(self._key)
        self._pauses -= 1
        if self._pauses or self._ended:
            self._queue.leave(self._key)

    def end(self) -> None:
        """The request is done."""
        self._ended = True
        if not self._pauses:
            self._queue.leave(self._key)


@asynccontextmanager
async def paused(*, in_turn: bool = False) -> AsyncIterator[None]:
    """While the block lasts, the request that this runs for, if any, does not count as worked on. For waits, not for work.

    `in_turn`: afterwards it waits for its turn; only where nothing is held that other requests of the same user may wait for.
    """
    context = request_context.current.get()
    place = context.place if context is not None else None
    if place is None:
        yield
        return
    place.pause()
    try:
        yield
    except BaseException:
        place.resume()
        raise
    if in_turn:
        await place.resume_in_turn()
    else:
        place.resume()
