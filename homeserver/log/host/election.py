"""Who of a host's processes writes for all of them: whoever holds a lock on a file. The kernel takes it from the dead.

Until a process has found its place, and whenever the leader has died, it writes by itself: nothing waits for an election.
What was with a leader that died is looked for in the log, under the lock on the head: nobody can be writing it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg
import structlog

from homeserver.log import store
from homeserver.log.entries import Append, Entry, Position, Written
from homeserver.log.host.follower import HandedAppends, Link
from homeserver.log.host.frames import PROTOCOL, Hello
from homeserver.log.host.leader import Leader
from homeserver.log.neighbours import Waiting
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.shared_positions import SharedPositions
from homeserver.storage.database import Database
from homeserver.storage.errors import OutcomeUnknown, StorageError

log = structlog.get_logger(__name__)

POSITIONS = "positions"
_LOCK, _SOCKET = "leader.lock", "leader.sock"
LOOK_AGAIN = 0.05
"""Seconds between looks for a leader."""
ASK_AGAIN = (0.1, 0.3, 1.0, 2.0, *(5.0,) * 6)
"""Seconds between questions what has become of appends."""
ANSWERS_WITHIN = 1.0
"""Seconds in which a leader answers who comes to it. One that does not hangs: nobody waits for it to begin to serve."""
BACKLOG = 64


@dataclass(frozen=True, slots=True)
class HostFolder:
    """Where the processes of a host meet: a folder that only they may enter."""

    path: Path
    place: int
    """Which of them this is."""
    processes: int
    """How many there are."""
    complete: bool
    """Whether no other host writes to the database."""


class Host:
    """This process among those of its host. `run` must be running for it to hand over, or to write for others."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self, folder: HostFolder, db: Database, tail: Tail, writer: LogWriter, clock: Clock, entropy: Entropy
    ) -> None:
        """Raises `OSError`. Connects itself to the tail and the writer."""
        self._folder = folder.path
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = db
        self._tail = tail
        self._log = writer
        self._clock = clock
        self._positions = SharedPositions(folder.path / POSITIONS, folder.place, folder.processes)
        self._disbelieved: Position = 0
        self.complete = folder.complete
        self._process = entropy.bytes(8)
        self._handed = HandedAppends(tail, self._process)
        self._leader: Leader | None = None
        self._link: Link | None = None
        self._settled = asyncio.Event()
        """Whether what was handed over to a leader that is gone has been decided."""
        self._settled.set()
        self._moved = asyncio.Event()
        """Set when something that was handed over is decided."""
        self.lead: Callable[[], Awaitable[None]] | None = None
        """Awaited by the process that leads, before it takes appends of others."""
        self.attentive: Callable[[], bool] = lambda: True
        """Whether somebody waits here for whatever is written: else it is heard of a moment later."""
        self.placed = asyncio.Event()
        """Set when this process leads or follows for the first time."""
        tail.neighbours = self
        tail.after_batch(self._tell)
        writer.delegate = self

    @property
    def leads(self) -> bool:
        """Whether this process writes for the others."""
        return self._leader is not None

    # --- see `Neighbours` ----------------------------------------------------------------------------------------

    @property
    def told(self) -> bool:
        """See `Neighbours.told`."""
        return self._link is not None and self._link.open

    def newest(self) -> Position:
        """See `Neighbours.newest`."""
        newest = self._positions.newest()
        return newest if newest > self._disbelieved else 0

    def seen(self, position: Position) -> None:
        """See `Neighbours.seen`."""
        self._positions.note(position)
        if self._handed:
            self._handed.resolve()
            self._decided([])

    def pull(self, position: Position) -> None:
        """See `Neighbours.pull`."""
        if self._link is not None:
            self._link.pull(position)

    def disbelieve(self, position: Position) -> None:
        """See `Neighbours.disbelieve`."""
        log.error("log.host_positions_wrong", position=position)
        self._disbelieved = position

    def own(self, origin: bytes, position: Position, written: Entry | None) -> Written[Any] | None:
        """See `Neighbours.own`."""
        return self._handed.own(origin, position, written)

    # --- see `Delegate` ------------------------------------------------------------------------------------------

    @property
    def notifies(self) -> bool:
        """See `Delegate.notifies`: those whom this process tells need not hear it from the database."""
        return not (self.complete and self.leads)

    @property
    def busy(self) -> bool:
        """See `Delegate.busy`."""
        return bool(self._handed) or not self._settled.is_set()

    def writing(self, accepted: Sequence[Append]) -> None:
        """See `Delegate.writing`."""
        if self._leader is not None:
            self._leader.writing(accepted)

    async def hand_over(self, waiting: deque[Waiting]) -> int:
        """See `Delegate.hand_over`."""
        await self._settled.wait()
        link = self._link
        if link is None or not link.open:
            return len(waiting) if not self._handed else await self._wait()
        link.hand_over(waiting)
        if not waiting:
            return 0
        if self._handed:
            # What is added first is written first; or there is no room for more.
            return await self._wait()
        return self._unfit(waiting)

    async def _wait(self) -> int:
        self._moved.clear()
        await self._moved.wait()
        return 0

    def _unfit(self, waiting: deque[Waiting]) -> int:
        """How many at the front cannot be handed over: at least one."""
        count = 0
        for append, _ in waiting:
            if count and not append.here and append.alongside is None:
                break
            count += 1
        return count

    def _decided(self, returned: list[Waiting]) -> None:
        if self.told:
            self.placed.set()
        self._moved.set()
        self._log.take_back(returned)

    # --- finding a place -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """When `run` has ended."""
        self._positions.close()

    def _tell(self, written: Sequence[Written[Any]]) -> None:
        if self._leader is not None:
            self._leader.told(written)

    async def run(self) -> None:
        """Lead, or follow who leads; for ever."""
        database = blake2b(self._db.dsn.encode(), digest_size=16).hexdigest()
        while True:
            with _lock(self._folder / _LOCK) as locked:
                if locked:
                    await self._serve(database)
            try:
                await self._follow(database)
            except OSError:  # it is about to listen, or has just died
                await self._clock.sleep(LOOK_AGAIN)

    async def _serve(self, database: str) -> None:
        """Write for the others until cancelled."""
        if self.lead is not None:
            await self.lead()
        self._leader = leader = Leader(self._log, self._tail, database)
        with _address(self._folder, _SOCKET) as address:
            (self._folder / _SOCKET).unlink(missing_ok=True)
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(leader.connection, address, backlog=BACKLOG)
        log.info("log.host_leads")
        self.placed.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            leader.close()
            self._leader = None

    async def _follow(self, database: str) -> None:
        """Hand over to whoever leads, until that ends. Raises `OSError` where nobody does."""
        hello = Hello(PROTOCOL, database, self._process)
        link = Link(self._tail, self._handed, hello, self._decided, self.attentive)
        with _address(self._folder, _SOCKET) as address:
            link.connect(address)
        self._link = link
        try:
            await self._until_ended(link)
        finally:
            self._link = None
            link.leave()
            if self._handed:
                self._settled.clear()
        await self._settle()

    async def _until_ended(self, link: Link) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS_WITHIN):
                await link.ended.wait()
                return
        self.placed.set()  # whoever listens has the host's claim; as long as it hangs, this process writes by itself
        await link.ended.wait()

    # --- when a leader has died ----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Find out what has become of what was handed over."""
        error: Exception | None = None
        for pause in (*ASK_AGAIN, None):
            try:
                if self._handed:
                    await self._look_for_handed()
                error = None
                break
            except (psycopg.Error, StorageError, OSError) as raised:
                error = raised
                log.warning("log.host_appends_in_doubt", appends=len(self._handed), error=repr(raised))
            if pause is not None:
                await self._clock.sleep(pause)
        returned: list[Waiting] = []
        for handed in self._handed.take_all():
            if error is not None or handed.jumps != self._tail.jumps:
                handed.fail(OutcomeUnknown("the database did not say whether this was written"))
            else:
                returned.append((handed.append, handed.future))
        self._settled.set()
        self._decided(returned)

    async def _look_for_handed(self) -> None:
        """Read the log up to its head, while nobody can write: what is ours is recognised by its origin."""
        async with self._db.transaction(first=True) as tx:
            async with tx.pipeline() as batch:
                head = store.lock_head(batch)
            assert head.result is not None
            await self._tail.reach(tx, head.result[0])


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock; it is free again when the block or the process has ended."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """The path of a socket in a folder, however long the folder's own is (sun_path holds 108 bytes). See unix(7)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
