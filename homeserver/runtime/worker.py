"""One serving process: an event loop, a signal to stop, and an end within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog
import uvloop

from homeserver.config import Config
from homeserver.runtime.clock import Clock, SystemClock

READY, ALIVE = b"ready\n", b"alive\n"
"""What a worker says on its standard output: once, and to each question."""
DUMP_TRACEBACK = signal.SIGUSR2
"""Lets a worker write on standard error where in the code each of its threads is."""

_PR_SET_PDEATHSIG = 1
_LENGTH = struct.Struct("!I")
_NOBODY_ASKS = 15.0  # seconds
_log = structlog.get_logger(__name__)


class Serve(Protocol):
    """`homeserver.app.serve`: serves until cancelled, and then ends in good order.

    `ready` is to be called once requests are answered. `siblings`: the other workers, who listen on the same port; None:
    there are none.
    """

    def __call__(
        self, config: Config, *, siblings: Siblings | None, worker: int, ready: Callable[[], None]
    ) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker process is told when it starts."""

    config: Config
    worker: int
    parent: int

    def to_bytes(self) -> bytes:
        body = pickle.dumps(self)
        return _LENGTH.pack(len(body)) + body

    @classmethod
    def read(cls, pipe: int = 0) -> Order:
        """From the parent's pipe, which is our standard input; what follows in it is left there."""
        (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
        order = pickle.loads(_exactly(pipe, length))  # noqa: S301  # our own parent wrote it
        assert isinstance(order, Order)
        return order


class Question(msgspec.Struct):
    """What a worker is asked every second; whatever it says, the answer is `ALIVE`."""

    processes: int
    """How many there should be."""
    silent: int
    """How many of them are not there or do not answer."""

    def to_line(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"


class Siblings:
    """What one worker knows of the others: what the process above last told it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: Question | None = None
        self._told_at = clock.monotonic()

    def told(self, line: bytes) -> None:
        """A question was asked. One that cannot be read is a question all the same."""
        self._told_at = self._clock.monotonic()
        with contextlib.suppress(msgspec.MsgspecError):
            self._told = msgspec.json.decode(line, type=Question)

    def trouble(self) -> str | None:
        """In words, if some do not answer, or nobody asks any more."""
        if self._clock.monotonic() - self._told_at > _NOBODY_ASKS:
            return "the process that starts the others does not answer"
        if self._told is not None and self._told.silent:
            return f"{self._told.silent} of {self._told.processes} processes do not answer"
        return None


def run_worker(order: Order, serve: Serve) -> int:
    """Be one of several: end at once if the parent is killed. Returns the exit status."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != order.parent:
        return 1
    # If we hang we are asked where, before we are killed.
    faulthandler.register(DUMP_TRACEBACK)
    return run_loop(_serve_as_one_of_several(order, serve))


async def _serve_as_one_of_several(order: Order, serve: Serve) -> int:
    siblings = Siblings(SystemClock())
    answering = asyncio.ensure_future(answer(siblings))
    try:
        return await serve_until_told(
            order.config, serve, siblings=siblings, worker=order.worker, ready=lambda: _say(READY)
        )
    finally:
        answering.cancel()


async def answer(siblings: Siblings) -> None:
    """Answer whoever started us for as long as they ask, by standard input and output."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        siblings.told(line)
        _say(ALIVE)


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()


def _exactly(pipe: int, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = os.read(pipe, length - len(parts))
        if not part:
            raise EOFError("the process above ended before it said what to do")
        parts += part
    return parts


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop; its result is the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve_until_told(
    config: Config, serve: Serve, *, siblings: Siblings | None, worker: int, ready: Callable[[], None]
) -> int:
    """Serve until SIGTERM or SIGINT, then let it end in good order; the exit status."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    def warm() -> None:
        # What was made so far stays; the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        # Nearly everything is freed by counting references; a full walk of the caches would stop the world for long, and so
        # would one of the middle generation if it might hold a million objects (176 ms; of 200 000 it takes 25).
        gc.set_threshold(20_000, 10, 150)
        ready()

    serving = asyncio.ensure_future(serve(config, siblings=siblings, worker=worker, ready=warm))
    telling = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({serving, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        telling.cancel()
    if serving.done():
        serving.result()  # raises what ended it
        return 0
    serving.cancel()
    patience = config.limits.drain + config.limits.shutdown
    _, pending = await asyncio.wait({serving}, timeout=patience + 0.5)
    if pending:
        _log.warning("shutdown_too_slow", seconds=patience)
        return 1
    if not serving.cancelled():
        serving.result()
    return 0
