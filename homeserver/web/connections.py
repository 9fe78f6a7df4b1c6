"""The connections of one listener: bounded, counted, and ended in good order.

Owns how many connections there may be, and the requests under way on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from homeserver.web import limits
from homeserver.web.clients import Clients
from homeserver.web.connection import Connection
from homeserver.web.dispatch import Dispatcher
from homeserver.web.http_parser import RequestBody, RequestHead
from homeserver.web.proxies import TrustedProxies
from homeserver.web.request import RequestInfo
from homeserver.web.steering import Steering


@dataclass(slots=True)
class ServerState:
    """What the listeners of a server share."""

    prefix: str
    """What the ids of this process's requests begin with."""
    keepalive: float
    """Seconds an idle connection stays."""
    limit: int
    """How many connections there may be."""
    clients: Clients
    """How much each client has at once."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the beginning of a shutdown."""
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Set during a shutdown when no request is under way any more."""
    steering: Steering | None = None
    """Which process a connection goes to; None: nobody else listens."""
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    taken: int = 0
    """How many connections there are."""
    under_way: int = 0
    """How many requests are being answered."""


def connections_possible() -> int:
    """How many connections this process can hold, having raised its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = limits.MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(soft, limits.MAX_CONNECTIONS)
    return max(most - limits.FILES_FOR_OTHERS, most // 2)


class Connections:
    """The connections of one listener. Fulfils `connection.ConnectionOwner`."""

    def __init__(
        self, state: ServerState, dispatcher: Dispatcher, proxies: TrustedProxies, *, tls: bool = False
    ) -> None:
        self._steering = None if tls else state.steering
        self.steers = self._steering is not None
        self.keepalive = state.keepalive
        self._state = state
        self._dispatch = dispatcher.answer
        self._proxies = proxies
        self._open: set[Connection] = set()
        self._counted: dict[Connection, str] = {}
        self._adopting: set[asyncio.Task[None]] = set()

    def __call__(self) -> Connection:
        """What the listening socket calls for a new connection."""
        return Connection(self)

    def opened(self, connection: Connection) -> bool:
        """See `ConnectionOwner.opened`."""
        state = self._state
        self._open.add(connection)
        self._count(1)
        if self._steering is not None and not connection.handed and self._steering.place(self, connection):
            return False
        if state.taken > state.limit:
            state.clients.refused("too_many_connections", asyncio.get_running_loop().time())
            return False
        if not self._proxies.trusts(connection.peer):
            client = state.clients.enter(connection.peer)
            if client is None:
                state.clients.refused("too_many_connections_of_a_client", asyncio.get_running_loop().time())
                return False
            self._counted[connection] = client
        return True

    def closed(self, connection: Connection) -> None:
        """See `ConnectionOwner.closed`."""
        self._open.discard(connection)
        self._count(-1)
        if (client := self._counted.pop(connection, None)) is not None:
            self._state.clients.leave(client)

    async def answer(self, connection: Connection, message: RequestHead, content: RequestBody) -> bool:
        """See `ConnectionOwner.answer`."""
        state = self._state
        number = (state.prefix, next(state.numbers))
        info = RequestInfo(connection, message, content, number, state.closing, self._proxies)
        state.under_way += 1
        client = None
        if connection not in self._counted and info.ip != connection.peer:
            client = state.clients.enter(info.ip)
            info.too_many = client is None
        try:
            return await self._dispatch(info)
        finally:
            if client is not None:
                state.clients.leave(client)
            state.under_way -= 1
            if not state.under_way and state.closing.is_set():
                state.quiet.set()

    # --- between processes: see `steering.Place` --------------------------------------------------------------------

    def open(self) -> Iterable[Connection]:
        """See `Place.open`."""
        return self._open

    def move(self, connection: Connection) -> None:
        """See `ConnectionOwner.move`."""
        if self._steering is not None:
            self._steering.move(self, connection)

    def adopt(self, sock: socket.socket, *, moved: bool) -> None:
        """See `Place.adopt`."""
        task = asyncio.get_running_loop().create_task(self._adopt(sock, moved))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, sock: socket.socket, moved: bool) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self, handed=True, moved=moved), sock
            )
        except (OSError, ValueError):  # it has gone meanwhile
            sock.close()

    def _count(self, change: int) -> None:
        self._state.taken += change
        if self._state.steering is not None:
            self._state.steering.count(self._state.taken)

    def finish(self) -> None:
        """Take no further requests."""
        for connection in list(self._open):
            connection.finish()

    async def end(self, moment: float) -> None:
        """End all connections: after `moment` seconds what still runs is cancelled, and after as many again broken off."""
        for cancel in (False, True):
            tasks = [connection.task for connection in self._open if connection.task is not None]
            if not tasks:
                break
            if cancel:
                for task in tasks:
                    task.cancel()
            await asyncio.wait(tasks, timeout=moment)
        for connection in list(self._open):
            connection.abort()
