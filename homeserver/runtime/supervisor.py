"""Everything around serving: the embedded database, the schema, one process or several, and an orderly end.

The process that is started owns the embedded PostgreSQL: it starts it first, revives it should it die, and stops it
last. With several workers (`workers.py`) it serves nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

import structlog

from homeserver.config import Config
from homeserver.runtime import ports, shared_buckets, shared_loads, shared_positions, signing_key
from homeserver.runtime.clock import Clock, Entropy, SystemClock
from homeserver.runtime.worker import Order, Serve, run_loop, serve_until_told
from homeserver.runtime.workers import Starting, Workers
from homeserver.storage import data_folder
from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.errors import StorageError

WORKER_COMMAND = (sys.executable, "-m", "homeserver", "worker")

_DATABASE_CHECK = 0.5  # seconds
_LONGEST_PAUSE = 5.0
_LONG_ENOUGH = 60.0  # a database that ran so long is started again at once

_log = structlog.get_logger(__name__)


def run(
    config: Config, load_serve: Callable[[], Serve], *, announce: Callable[[Config], None] = lambda _: None
) -> int:
    """Serve until told to stop (SIGTERM, SIGINT); the exit status. `announce` is called once everything is up.

    Must be called in the main thread. `load_serve` imports the server, which above several workers nobody needs.

    Raises:
        PortTaken, SigningKeyError, StorageError: nothing was started, or everything has been stopped again.
    """
    signal.signal(
        signal.SIGHUP, signal.SIG_IGN
    )  # until there is something to read anew: by itself it ends a process
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
    if database is not None:
        from homeserver.storage import migrate

        migrate.apply(database.dsn)
    if config.server.processes > 1:
        shared_positions.begin(config.server.data_dir / shared_positions.PATH)
        shared_loads.begin(config.server.data_dir / shared_loads.PATH)
        shared_buckets.begin(config.server.data_dir / shared_buckets.PATH, Entropy().bytes(16))
        order = Order(config, worker=-1, parent=os.getpid())
        return run_loop(_several(Starting(order, WORKER_COMMAND), lambda: announce(config), database))
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


async def _several(starting: Starting, ready: Callable[[], None], database: EmbeddedPostgres | None) -> int:
    keeper = asyncio.ensure_future(keep_alive(database, SystemClock()))
    try:
        return await Workers(starting, ready).run()
    finally:
        keeper.cancel()


async def _alone(
    config: Config, serve: Serve, database: EmbeddedPostgres | None, ready: Callable[[], None]
) -> int:
    keeper = asyncio.ensure_future(keep_alive(database, SystemClock()))
    try:
        return await serve_until_told(config, serve, siblings=None, worker=0, ready=ready)
    finally:
        keeper.cancel()


async def keep_alive(database: EmbeddedPostgres | None, clock: Clock) -> None:
    """Start the embedded database again whenever it has died, and until it can be started; never raises.

    What stands in the way (a full disk) may go away by itself: said once, tried again less and less often.
    """
    pause, since = 0.0, clock.monotonic()
    while database is not None:
        await clock.sleep(_DATABASE_CHECK)
        if database.alive:
            if clock.monotonic() - since > _LONG_ENOUGH:
                pause = 0.0
            continue
        _log.error("database_died", log=str(database.log))
        await clock.sleep(pause)
        pause = min(2 * pause + _DATABASE_CHECK, _LONGEST_PAUSE)
        since = clock.monotonic()
        try:
            database.revive()
        except (OSError, StorageError) as error:
            _log.error("database_not_started", error=str(error))  # the sentence says it all
