"""Rooms at work: this process takes those that it has staged something for, and those that nobody works on any more.

A room is one process's at a time, under a lease on the database's clock. Whoever stages something for a room that is free takes it
in the same transaction; what is staged for a room at work is seen by who works on it before they let go of it (its version has
moved on), and NOTIFY tells them at once where they wait for another server. One small query a second finds what the dead left
behind and what is due again: none per room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from federation.inbound import store
from federation.inbound.awaited import MAX_ROOMS as MAX_WAITING
from federation.inbound.awaited import Awaited
from federation.inbound.parts import Filling, HeldBytes, Parts
from federation.inbound.room import AWAY, RoomWork
from federation.inbound.types import RoomStaged
from homeserver.log.readers.lease import Lease
from homeserver.matrix.ids import EventId
from homeserver.runtime import request_context
from homeserver.runtime.causes import Causes, cause_of
from homeserver.runtime.clock import Entropy
from homeserver.runtime.periodic import Periodic, every
from homeserver.runtime.supervised import asked_to_end
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError

_log = structlog.get_logger("atrium.federation.inbound")

LEASE: Final = 3.0
"""Seconds of the database's clock after which a process that does not renew is taken to be dead."""
LOOK_EVERY: Final = 0.9
"""Seconds between renewals, and between looks for rooms that nobody works on."""
MAX_ROOMS: Final = 500
"""At work in a process; further ones wait for a free place, in any process."""
TAKEN_AT_ONCE: Final = 50
TURNS: Final = 8
"""Rooms that read and write the database at the same time in a process."""
FILLING_EACH: Final = 20
FILLING_MOST: Final = 200
"""Rooms of which a gap is being filled, of one origin and in all."""
MAX_HELD_BYTES: Final = 64 << 20
"""Of staged events in the memory of a process, as JSON; parsed they take some times as much."""
FORGET_EVERY: Final = 3_600.0
COUNT_EVERY: Final = 5.0
WOKEN_AT_ONCE: Final = 50
"""Rooms of which something has come that was waited for, looked at together."""
LACKING: Final = 10_000
"""Staged events of which it is read at once what they wait for."""


class Inbound:
    """Owns the rooms that this process works on."""

    def __init__(self, db: Database, entropy: Entropy) -> None:
        self._db = db
        self.owner = entropy.token(12)
        self.turns = asyncio.Semaphore(TURNS)
        self.filling = Filling(FILLING_EACH, FILLING_MOST)
        self.memory = HeldBytes(MAX_HELD_BYTES)
        self.awaited = Awaited()
        self._parts: Parts | None = None
        self._works: dict[int, RoomWork] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leases: dict[int, Lease] = {}
        self._causes = Causes(_log, "inbound.room_failed")
        self._closing = False
        self.events_staged = 0
        """In the whole cluster, as of the last count."""
        self.bytes_staged = 0

    def work_with(self, parts: Parts) -> None:
        """What rooms are worked on with; once."""
        self._parts = parts

    @property
    def parts(self) -> Parts:
        """What rooms are worked on with."""
        assert self._parts is not None
        return self._parts

    def works_on(self, room_nid: int) -> bool:
        """Whether a room is at work in this process, or nothing may be begun any more."""
        return self._closing or room_nid in self._works

    @property
    def at_work(self) -> int:
        """Rooms."""
        return len(self._works)

    @property
    def takes(self) -> bool:
        """Whether this process takes more rooms."""
        return not self._closing and len(self._works) < MAX_ROOMS

    def staged(self, rooms: Sequence[RoomStaged], asked_at: float) -> list[int]:
        """A transaction of ours is committed. `asked_at`: by the loop's clock. Returns the rooms that others work on."""
        others = []
        for room in rooms:
            if room.owner != self.owner:
                if room.owner is not None:
                    others.append(room.room_nid)
                continue
            work = self._works.get(room.room_nid)
            if work is None:
                work = self._begin(room.room_nid, asked_at)
            work.offer(room)
        return others

    def hint(self, payload: str) -> None:
        """Another process has staged something for a room; an empty payload: hints may have been lost."""
        chosen = [int(payload)] if payload.isdecimal() else [*self._works]
        for room_nid in chosen:
            if (work := self._works.get(room_nid)) is not None:
                work.wake()

    def periodic(self) -> list[Periodic]:
        """What has to run for rooms to be worked on."""
        return [
            every(LOOK_EVERY, self.look, name="federation.inbound", first=0.2, timeout=20.0),
            every(COUNT_EVERY, self._count, name="federation.inbound_count", first=0.1),
            every(FORGET_EVERY, self._forget, name="federation.inbound_transactions", once_in_cluster=True),
        ]

    async def look(self) -> None:
        """Once: renew leases, take what is free, and what has stopped waiting. Raises what the database says."""
        await self._wake_waiting()
        if not self._works:
            async with self._db.read() as tx:
                if not await store.anything_free(tx):
                    return
        asked = asyncio.get_running_loop().time()
        held = [*self._works]
        limit = min(TAKEN_AT_ONCE, MAX_ROOMS - len(held)) if self.takes else 0
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            renewed = store.renew(batch, self.owner, held, LEASE)
            taken = store.take(batch, self.owner, limit, LEASE)
        ours = {room_nid for (room_nid,) in renewed.result}
        for room_nid in held:
            if room_nid in ours and room_nid in self._leases:
                self._leases[room_nid].renewed(asked)
        for (room_nid,) in taken.result:
            if room_nid in self._works:
                self._leases[room_nid].renewed(asked)
                self._works[room_nid].wake()
            elif not self._closing:
                self._begin(room_nid, asked)

    async def _wake_waiting(self) -> None:
        come = self.awaited.come(WOKEN_AT_ONCE)
        if not come:
            return
        try:
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                woken = store.wake(batch, come)
        except BaseException:
            self.awaited.again(come)
            raise
        for room_nid in come:  # what waits there in memory is in no row that was woken
            if (work := self._works.get(room_nid)) is not None:
                work.wake()
        others = [room for room, owner in woken.result if owner is not None and room not in self._works]
        if others:
            async with self._db.transaction() as tx:
                await store.notify(tx, others)

    async def _learn_waiting(self) -> None:
        """What is waited for where another process, or an earlier one, has put it off."""
        async with self._db.read() as tx, tx.pipeline() as batch:
            found = store.find_waiting(batch, MAX_WAITING)
        rooms = {room_nid for (room_nid,) in found.result}
        if new := self.awaited.unknown(rooms)[:WOKEN_AT_ONCE]:
            async with self._db.read() as tx, tx.pipeline() as batch:
                lacking = store.find_lacking(batch, new, LACKING)
            waiting: dict[int, list[EventId]] = {room_nid: [] for room_nid in new}
            for room_nid, event_ids in lacking.result:
                waiting[room_nid] += event_ids
            self.awaited.learn(waiting)
        self.awaited.keep(rooms | self._works.keys())

    def close(self) -> None:
        """Take no more rooms, and leave those at work where they are: the log is about to be closed."""
        self._closing = True
        for task in self._tasks.values():
            task.cancel()

    async def stop(self) -> None:
        """Let go of all rooms: others may go on at once, or we when we come back."""
        self.close()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(LEASE), self._db.transaction() as tx:
                await store.give_up_all(tx, self.owner)
        except (psycopg.Error, StorageError, TimeoutError) as error:
            _log.warning("inbound.not_released", error=type(error).__name__)

    def _begin(self, room_nid: int, asked_at: float) -> RoomWork:
        lease = self._leases[room_nid] = Lease(self.owner, 0, asked_at)
        work = self._works[room_nid] = RoomWork(room_nid, self.parts, lambda: lease.valid)
        self._tasks[room_nid] = asyncio.create_task(self._run(room_nid, work), name="inbound.room")
        return work

    async def _run(self, room_nid: int, work: RoomWork) -> None:
        """Nothing that is wrong with one room ends another: its lease runs out, then it is taken up again."""
        request_context.current.set(None)  # whoever has sent something first does not answer for all of it
        try:
            await work.run()
            self._causes.over()
        except asyncio.CancelledError as error:
            if asked_to_end():
                raise
            self._causes.tell(error)
        except AWAY as error:
            _log.warning("inbound.room_waits", cause=cause_of(error), again_in=LEASE)
        except Exception as error:  # noqa: BLE001  # whatever it was
            self._causes.tell(error)
        finally:
            if self._works.get(room_nid) is work:
                del self._works[room_nid], self._tasks[room_nid], self._leases[room_nid]

    async def _count(self) -> None:
        async with self._db.read() as tx:
            self.events_staged, self.bytes_staged = await store.count_staged(tx)
        await self._learn_waiting()

    async def _forget(self) -> None:
        async with self._db.transaction() as tx:
            await store.forget_transactions(tx)
