"""One serving process: an event loop, a signal to stop, and an end within bounds."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import pickle
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
import uvloop

from homeserver.config import Config

_PR_SET_PDEATHSIG = 1
_log = structlog.get_logger(__name__)


class Serve(Protocol):
    """`homeserver.app.serve`: serves until cancelled, and then ends in good order.

    `ready` is to be called once requests are answered. `reuse_port` says that other workers listen on the same port.
    """

    def __call__(
        self, config: Config, *, reuse_port: bool, worker: int, ready: Callable[[], None]
    ) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker process is told when it starts."""

    config: Config
    worker: int
    parent: int
    migrates: bool
    """Whether the database is ours to bring up to date; all workers may try, one does it."""

    def to_bytes(self) -> bytes:
        return pickle.dumps(self)

    @classmethod
    def read(cls) -> Order:
        """From the parent's pipe, which is our standard input."""
        order = pickle.load(sys.stdin.buffer)  # noqa: S301  # our own parent wrote it
        assert isinstance(order, Order)
        return order


def run_worker(order: Order, serve: Serve) -> int:
    """Be one of several: end at once if the parent is killed. Returns the exit status."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != order.parent:
        return 1

    if order.migrates and order.config.database.url is not None:
        from homeserver.storage import migrate

        migrate.apply(order.config.database.url)

    def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    return run_loop(serve_until_told(order.config, serve, worker=order.worker, reuse_port=True, ready=ready))


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop; its result is the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve_until_told(
    config: Config, serve: Serve, *, worker: int, reuse_port: bool, ready: Callable[[], None]
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
        # Nearly everything is freed by counting references; a full walk of the caches would stop the world for long.
        gc.set_threshold(50_000, 25, 25)
        ready()

    serving = asyncio.ensure_future(serve(config, reuse_port=reuse_port, worker=worker, ready=warm))
    telling = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({serving, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        telling.cancel()
    if serving.done():
        serving.result()  # raises what ended it
        return 0
    serving.cancel()
    _, pending = await asyncio.wait({serving}, timeout=config.limits.shutdown + 0.5)
    if pending:
        _log.warning("shutdown_too_slow", seconds=config.limits.shutdown)
        return 1
    if not serving.cancelled():
        serving.result()
    return 0
