"""Everything around serving: the embedded database, the schema, one process or several, and an orderly end.

The process that is started owns the embedded PostgreSQL: it starts it first, revives it should it die, and stops it
last. With several workers it serves nothing itself; they share the ports (SO_REUSEPORT), and one that crashes is
started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import structlog

from homeserver.config import Config
from homeserver.runtime import ports, signing_key
from homeserver.runtime.clock import Clock, Entropy, SystemClock
from homeserver.runtime.worker import Order, Serve, run_loop, serve_until_told
from homeserver.storage import data_folder
from homeserver.storage.embedded import EmbeddedPostgres

WORKER_COMMAND = (sys.executable, "-m", "homeserver", "worker")

_DATABASE_CHECK = 0.5  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_LONG_ENOUGH = 60.0  # a worker that ran so long is started again without a pause

_log = structlog.get_logger(__name__)


def run(
    config: Config, load_serve: Callable[[], Serve], *, announce: Callable[[Config], None] = lambda _: None
) -> int:
    """Serve until told to stop (SIGTERM, SIGINT); the exit status. `announce` is called once everything is up.

    Must be called in the main thread. `load_serve` imports the server, which above several workers nobody needs.

    Raises:
        PortTaken, SigningKeyError, StorageError: nothing was started, or everything has been stopped again.
    """
    config = ports.settle(config)
    data_folder.settle(config.server.data_dir)
    signing_key.load_or_create(config.server.signing_key, Entropy())
    if config.database.url is not None:
        from homeserver.storage import migrate

        migrate.require_current(config.database.url)
        return _serve(config, load_serve, None, announce)
    database = EmbeddedPostgres(config.server.data_dir)
    with _deaf_until_serving(), contextlib.ExitStack() as stack:
        stack.callback(database.stop)
        database.start(meanwhile=load_serve if config.server.processes == 1 else lambda: None)
        return _serve(config.with_database(database.dsn), load_serve, database, announce)


def _serve(
    config: Config,
    load_serve: Callable[[], Serve],
    database: EmbeddedPostgres | None,
    announce: Callable[[Config], None],
) -> int:
    if config.server.processes > 1:
        order = Order(config, worker=-1, parent=os.getpid(), migrates=database is not None)
        return run_loop(Workers(order, WORKER_COMMAND, database, lambda: announce(config)).run())
    if database is not None:
        from homeserver.storage import migrate

        migrate.apply(database.dsn)
    return run_loop(_alone(config, load_serve(), database, lambda: announce(config)))


@contextlib.contextmanager
def _deaf_until_serving() -> Iterator[None]:
    """A signal while the database starts must not leave it behind: it ends us like an exception does."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _alone(
    config: Config, serve: Serve, database: EmbeddedPostgres | None, ready: Callable[[], None]
) -> int:
    keeper = asyncio.ensure_future(keep_alive(database, SystemClock()))
    try:
        return await serve_until_told(config, serve, worker=0, reuse_port=False, ready=ready)
    finally:
        keeper.cancel()


async def keep_alive(database: EmbeddedPostgres | None, clock: Clock) -> None:
    """Start the embedded database again whenever it has died."""
    while database is not None:
        await clock.sleep(_DATABASE_CHECK)
        if not database.alive:
            _log.error("database_died", log=str(database.log))
            database.revive()


class Workers:
    """Several serving processes, kept running. `order` is what each is told, but for its number."""

    def __init__(
        self,
        order: Order,
        command: Sequence[str],
        database: EmbeddedPostgres | None,
        ready: Callable[[], None],
    ) -> None:
        self._order = order
        self._config = config = order.config
        self._command = command
        self._database = database
        self._announce = ready
        self._clock = SystemClock()
        self._not_ready = set(range(config.server.processes))
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until told to stop, or a worker cannot even start; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(keep_alive(self._database, self._clock))
            kept = [group.create_task(self._keep(number)) for number in range(self._config.server.processes)]
            await self._stopping.wait()
            await self._end(kept)
            keeper.cancel()
        return self._status

    async def _keep(self, number: int) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            since = self._clock.monotonic()
            status = await self._one(number)
            if self._stopping.is_set():
                return
            _log.error("worker_ended", worker=number, status=status)
            if number in self._not_ready and status >= 0:
                # It ended by itself before it served: it would again. (One that was killed gets another chance.)
                self._status = status or 1
                self._stopping.set()
                return
            pause = (
                _FIRST_PAUSE
                if self._clock.monotonic() - since > _LONG_ENOUGH
                else min(2 * pause, _LONGEST_PAUSE)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _one(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=False,
        )
        self._running[number] = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(replace(self._order, worker=number).to_bytes())
                await process.stdin.drain()
                process.stdin.close()
            async for line in process.stdout:
                if line == b"ready\n":
                    self._is_ready(number)
                else:
                    sys.stdout.buffer.write(line)
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            del self._running[number]

    def _reload(self) -> None:
        """Tell the workers to read their certificates anew."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)

    def _is_ready(self, number: int) -> None:
        if number in self._not_ready:
            self._not_ready.discard(number)
            if not self._not_ready:
                self._announce()

    async def _end(self, kept: Sequence[asyncio.Task[None]]) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        _, slow = await asyncio.wait(kept, timeout=self._config.limits.shutdown + 1.0)
        if slow:
            _log.warning("workers_too_slow", workers=sorted(self._running))
            for process in list(self._running.values()):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.wait(slow)
