"""Which process of the host has a connection: those that serve now, as few as are enough (`runtime.spreading`).

The kernel gives a new connection to any of the processes that listen. One that is not to serve, or has more than others, hands
it on: the open socket goes through a Unix socket to the other process, which goes on with it. Connections that stay open between
requests move in the same way, between two requests, when work is spread over more processes, or fewer. A process that cannot be
reached is given nothing: what nobody takes stays where it is.

Only plain connections move, those of TLS stay where the kernel has put them: their keys cannot be handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import structlog

from homeserver.runtime.clock import Clock
from homeserver.runtime.shared_loads import Load, SharedLoads
from homeserver.runtime.spreading import EVERY, MachineTime, OwnTime, Spreading

_log = structlog.get_logger("atrium.web")

FOLDER: Final = Path("run/steering")
"""Below the data directory: a socket for each process."""
APART: Final = 0.2
"""How much busier than another one a process has to be for connections to move there."""
SETTLES: Final = 6
"""Looks after a move before there is another one for that reason: what it has brought has to show first."""
AT_ONCE: Final = 64
"""Connections that are moved at one look, at most."""
_RECEIVED_AT_ONCE: Final = 32
_NEW, _MOVED = b"N", b"M"


class Movable(Protocol):
    """A connection."""

    away: bool
    """It shall move as soon as it can."""

    @property
    def movable(self) -> bool:
        """Whether it is between two requests, and nothing of it is in this process."""
        ...

    def descriptor(self) -> int: ...

    def abort(self) -> None: ...


class Place(Protocol):
    """The connections of a listener."""

    def adopt(self, sock: socket.socket, *, moved: bool) -> None:
        """Go on with a connection that another process has accepted, or has had."""
        ...

    def open(self) -> Iterable[Movable]: ...


class Steering:
    """This process among those that listen with it. To be used in the loop's thread alone, from `start` to `stop`."""

    def __init__(
        self,
        folder: Path,
        loads: SharedLoads,
        clock: Clock,
        leads: Callable[[], bool],
        *,
        spreading: Spreading | None = None,
        every: float = EVERY,
    ) -> None:
        """`folder`: where the processes of the host meet, as `FOLDER`. `leads`: whether this one writes for the others.
        `every`: seconds between looks.
        """
        self._every = every
        self._folder = folder
        self._loads = loads
        self._clock = clock
        self._leads = leads
        self._spreading = spreading or Spreading()
        self._places: list[Place] = []
        self._socket: socket.socket | None = None
        self._directory = -1
        self._own: OwnTime | None = None
        self._machine: MachineTime | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._settles = 0
        self._marked = False
        """Some connections are to move as soon as they can."""
        self._unreachable: dict[int, int] = {}
        """Who could not be reached, and its beat then."""
        self.serving: list[Load] = []
        """As of the last look; empty: everything stays where it is."""
        self.moved = 0
        """Connections that were handed on, since the start."""

    @property
    def serves(self) -> bool:
        """Whether connections shall come to this process."""
        return any(load.place == self._loads.place for load in self.serving)

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self, places: Iterable[Place]) -> None:
        """From now on. `places`: the listeners, in the same order at all processes. Raises `OSError`."""
        self._places = list(places)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        name = self._name(self._loads.place)
        (self._folder / name).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind(self._address(self._loads.place))
        self._own = OwnTime(self._clock.monotonic())
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._received)
        self.look()

    def stop(self) -> None:
        """Nothing is handed on, or taken, any more. Idempotent."""
        self.serving = []
        self._loads.leave()
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._received()  # who has sent it has it no more
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._own is not None:
            self._own.close()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    # --- who serves ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Say how this process is, see how the others are, and move what shall be elsewhere; again and again."""
        assert self._own is not None
        self._timer = asyncio.get_running_loop().call_later(self._every, self.look)
        now = self._clock.monotonic()
        loads, beat, busy = self._loads, int(now * 1e6), self._own.look(now)
        loads.note(beat, busy, leads=self._leads(), wanted=self._spreading.wanted)
        living = loads.living(beat)
        if living[0].place == loads.place:
            self._decide(living)
            loads.note(beat, busy, leads=self._leads(), wanted=self._spreading.wanted)
        else:
            self._machine = None
            self._spreading.follow(living[0].wanted)
        self.serving = living[: self._spreading.wanted]
        self._unreachable = {p: b for p, b in self._unreachable.items() if loads.of(p).beat == b}
        self._balance(busy)

    def _decide(self, living: list[Load]) -> None:
        try:
            self._machine = self._machine or MachineTime()
            spare = self._machine.look()
        except (OSError, ValueError):
            spare = float(os.cpu_count() or 1)
        before = self._spreading.wanted
        wanted = self._spreading.decide(living, spare)
        if wanted != before:
            _log.info("processes_serving", processes=wanted, of=len(living), idle_processors=round(spare, 1))

    def count(self, connections: int) -> None:
        """This process has so many now."""
        self._loads.count(connections)

    # --- moving --------------------------------------------------------------------------------------------------

    def place(self, listener: Place, connection: Movable) -> bool:
        """A connection has come, of which nothing was read: whether another process has it now."""
        if self.serves and len(self.serving) == 1:
            return False
        own = self._loads.of(self._loads.place).connections
        target = self._least()
        if target is None or (self.serves and target.connections >= own - 1):
            return False
        return self._send(target, listener, connection, _NEW)

    def move(self, listener: Place, connection: Movable) -> None:
        """Move a connection that is to go elsewhere, if that is possible now."""
        target = self._least()
        if target is None or not connection.movable:
            return
        connection.away = False
        if self._send(target, listener, connection, _MOVED):
            connection.abort()

    def _balance(self, busy: float) -> None:
        """Mark connections that shall be elsewhere, and move those that can be moved at once."""
        self._settles = max(0, self._settles - 1)
        if not self.serving:
            return
        least = self._least()
        part = 0.0
        if least is not None and not self.serves:
            part = 1.0
        elif least is not None and not self._settles:
            idlest = min(load.busy for load in self.serving)
            part = (busy - idlest) / (2 * busy) if busy - idlest > APART else 0.0
            self._settles = SETTLES if part else 0
        if not part and not self._marked:
            return
        self._marked = bool(part)
        budget = AT_ONCE
        for listener in self._places:
            standing = list(listener.open())
            for index, connection in enumerate(standing):
                connection.away = index < part * len(standing)
                if connection.away and connection.movable and budget:
                    budget -= 1
                    self.move(listener, connection)

    def _least(self) -> Load | None:
        """The other process that serves and has the fewest connections."""
        others = [
            self._loads.of(load.place)
            for load in self.serving
            if load.place != self._loads.place and load.place not in self._unreachable
        ]
        return min(others, key=lambda load: load.connections, default=None)

    def _send(self, target: Load, listener: Place, connection: Movable, how: bytes) -> bool:
        """Whether the other process has it; the caller has to close its own descriptor then."""
        if self._socket is None:
            return False
        message = how + bytes([self._places.index(listener)])
        try:
            descriptor = array("i", [connection.descriptor()])
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)
            self._socket.sendmsg([message], [rights], 0, self._address(target.place))
        except BlockingIOError:  # it has much to take already
            return False
        except OSError:  # it has just ended
            self._unreachable[target.place] = target.beat
            return False
        self.moved += 1
        return True

    def _received(self) -> None:
        assert self._socket is not None
        for _ in range(_RECEIVED_AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._socket, 16, 4, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, OSError):
                return
            for descriptor in descriptors:
                self._take(message, descriptor)

    def _take(self, message: bytes, descriptor: int) -> None:
        try:
            place = self._places[message[1]]
            sock = socket.socket(fileno=descriptor)
        except (IndexError, OSError):
            with contextlib.suppress(OSError):
                os.close(descriptor)
            return
        sock.setblocking(False)
        place.adopt(sock, moved=message[:1] == _MOVED)

    def _name(self, place: int) -> str:
        return f"{place}.sock"

    def _address(self, place: int) -> str:
        """Of a process's socket, however long the folder's path is (sun_path holds 108 bytes). See unix(7)."""
        return f"/proc/self/fd/{self._directory}/{self._name(place)}"
