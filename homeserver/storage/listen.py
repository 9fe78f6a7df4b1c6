"""Hears what other processes announce: one LISTEN connection per process.

A notification is a hint. While the connection is being replaced some are lost, so the listener also yields an empty
payload whenever it (re)connects: "look for yourself".
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, LiteralString, NamedTuple

import psycopg
import structlog

from homeserver.runtime.causes import Causes
from homeserver.storage.primary import Primary

_BOUND = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LOOK_AGAIN = 2.0

_log = structlog.get_logger(__name__)


class Hint(NamedTuple):
    """A notification; an empty payload after each (re)connect."""

    channel: str
    payload: str


async def listen(dsn: str, *channels: LiteralString) -> AsyncIterator[Hint]:
    """Yield every notification on these channels, for ever; for each an empty one after each (re)connect.

    At most the newest thousand wait to be fetched: who falls behind that far should look for itself anyway.
    """
    pause, causes = _FIRST_PAUSE, Causes(_log, "database_listener_lost", channel=channels[0])
    primary = Primary()
    while True:
        try:
            async with contextlib.aclosing(_listen_once(primary, dsn, channels)) as hints:
                async for hint in hints:
                    causes.over()
                    pause = _FIRST_PAUSE
                    yield hint
        except psycopg.OperationalError as error:
            causes.tell(error, again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _listen_once(primary: Primary, dsn: str, channels: Sequence[LiteralString]) -> AsyncGenerator[Hint]:
    connection = await primary.connect(dsn, client_encoding="utf8", application_name="atrium-listen")
    notify_socket = _NotifySocket(connection.pgconn)
    try:
        connection.add_notify_handler(
            lambda each: notify_socket.waiting.append(Hint(each.channel, each.payload))
        )
        for channel in channels:
            await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        notify_socket.hear()
        for channel in channels:
            yield Hint(channel, "")
        while True:
            await notify_socket.something.wait()
            notify_socket.something.clear()
            while notify_socket.waiting:
                yield notify_socket.waiting.popleft()
            if notify_socket.error is not None:
                raise notify_socket.error
    finally:
        notify_socket.deafen()
        await connection.close()


class _NotifySocket:
    """Collects what arrives on the connection."""

    def __init__(self, pg: Any) -> None:
        self._pg = pg
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        self._look: asyncio.TimerHandle | None = None
        self.waiting: collections.deque[Hint] = collections.deque(maxlen=_BOUND)
        self.something = asyncio.Event()
        self.error: psycopg.OperationalError | None = None

    def hear(self) -> None:
        self._descriptor = self._pg.socket  # a lost connection no longer tells
        self._loop.add_reader(self._descriptor, self._readable)
        self._look = self._loop.call_later(_LOOK_AGAIN, self._look_again)

    def deafen(self) -> None:
        """Once: as soon as the connection is lost, the number may belong to another one."""
        if self._look is not None:
            self._look.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = -1

    def _look_again(self) -> None:
        """The loop need not tell of the end: see `Connection.look_again`."""
        self._look = self._loop.call_later(_LOOK_AGAIN, self._look_again)
        self._readable()

    def _readable(self) -> None:
        try:
            self._pg.consume_input()
            while (notification := self._pg.notifies()) is not None:
                self.waiting.append(Hint(notification.relname.decode(), notification.extra.decode()))
        except psycopg.OperationalError as error:
            self.error = error
            self.deafen()
        if self.waiting or self.error is not None:
            self.something.set()
