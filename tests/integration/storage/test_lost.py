"""A connection that is lost says so soon, whatever the event loop makes of the socket's end.

On uvloop, which servers run on: libuv stops watching a socket that reports an error, and calls the reader once. If there was
something left to read, the reader does not see the end that comes after it, and whoever waits for an answer would wait for
ever. It happens when PostgreSQL dies while a statement is on its way.
"""

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Self

import psycopg
import pytest
import uvloop
from psycopg import conninfo

from homeserver.storage.database import Database, Timeouts
from homeserver.storage.listen import listen

UNFINISHED = b"E\x00\x00\x01\x00SFATAL\x00"
"""The beginning of a message of 256 bytes."""


def on_uvloop(play: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play)


class Wire:
    """Carries connections to a PostgreSQL from a socket of its own; can fall silent, and be cut. A thread: the loop under
    test has nothing of it.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        there = conninfo.conninfo_to_dict(dsn)
        self._target = f"{there['host']}/.s.PGSQL.{there.get('port', 5432)}"
        self.dsn = conninfo.make_conninfo(dsn, host=str(folder), port=5432)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / ".s.PGSQL.5432"))
        self._listening.listen()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._silent = self._ended = False
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self.cut()
        self._listening.close()

    def fall_silent(self) -> None:
        """What is said on the connections of now is not read any more, and nobody tells."""
        with self._lock:
            self._silent = True

    def cut(self) -> None:
        """In the middle of a word, with what the client said last unread: the end of a process that is killed."""
        with self._lock:
            for client, server in self._pairs:
                with contextlib.suppress(OSError):
                    client.send(UNFINISHED)
                client.close()
                server.close()
            self._pairs.clear()
            self._silent = False

    def _carry(self) -> None:
        while not self._ended:
            with self._lock:
                quiet = {} if self._silent else {c: s for pair in self._pairs for c, s in (pair, pair[::-1])}
                ready, _, _ = select.select([self._listening, *quiet], [], [], 0)
                for source in ready:
                    if source is self._listening:
                        self._connect()
                    elif piece := source.recv(1 << 16):
                        quiet[source].sendall(piece)
                    else:
                        self._pairs = [pair for pair in self._pairs if source not in pair]
                        for end in (source, quiet[source]):
                            end.close()
                        break
            time.sleep(0.005)

    def _connect(self) -> None:
        client, _ = self._listening.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        self._pairs.append((client, server))
        self._silent = False


def test_whoever_waits_for_an_answer_hears_that_the_database_has_died(database: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with Database(there.dsn, size=2) as db, asyncio.timeout(90):
            for _ in range(3):
                there.fall_silent()
                asyncio.get_running_loop().call_later(0.1, there.cut)
                with pytest.raises(psycopg.OperationalError):
                    async with db.read() as tx:
                        await tx.value("SELECT 1")
                async with db.read() as tx:
                    assert await tx.value("SELECT 1") == 1
            assert db.usage == (0, 1, 0)

    with Wire(database, tmp_path) as there:
        on_uvloop(play())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_whoever_has_not_sent_all_of_a_statement_hears_it_as_well(
    database: str, tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def play() -> None:
        async with asyncio.timeout(90), Database(there.dsn, size=1) as db:
            async with db.read() as tx:
                assert await tx.value("SELECT octet_length(%(sent)s::bytea)", sent=b"a") == 1
            there.fall_silent()
            asyncio.get_running_loop().call_later(0.1, there.cut)
            with pytest.raises(psycopg.OperationalError):
                async with db.read() as tx:
                    await tx.value("SELECT octet_length(%(sent)s::bytea)", sent=bytes(8 * 2**20))
            async with db.read() as tx:
                assert await tx.value("SELECT 1") == 1

    with Wire(database, tmp_path) as there, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(play())


async def test_whoever_waits_for_an_answer_hears_that_the_pool_was_closed(database: str) -> None:
    async with asyncio.timeout(90):
        db = Database(database, size=1)
        await db.open()

        async def ask() -> None:
            async with db.read() as tx:
                await tx.value("SELECT pg_sleep(10)")

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        await db.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await asking


def test_an_answer_that_never_comes_is_not_waited_for_for_ever(database: str, tmp_path: Path) -> None:
    """The limit that the database sets to a statement does not reach us then."""

    async def play() -> None:
        limits = Timeouts(statement=1)
        async with asyncio.timeout(90), Database(there.dsn, size=1, timeouts=limits) as db:
            there.fall_silent()
            with pytest.raises(psycopg.OperationalError, match="does not answer"):
                async with db.read() as tx:
                    await tx.value("SELECT 1")
            while True:  # for two seconds everybody is refused at once
                with contextlib.suppress(psycopg.OperationalError):
                    async with db.read() as tx:
                        assert await tx.value("SELECT 1") == 1
                        break
                await asyncio.sleep(0.1)

    with Wire(database, tmp_path) as there:
        on_uvloop(play())


def test_the_listener_hears_that_the_database_has_died(database: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with contextlib.aclosing(listen(there.dsn, "news")) as news, asyncio.timeout(90):
            assert (await anext(news)).payload == ""
            asyncio.get_running_loop().call_later(0.1, there.cut)
            assert (await anext(news)).payload == "", "after a gap: look for yourself"

    with Wire(database, tmp_path) as there:
        on_uvloop(play())
