"""Local events of rooms in which somebody else has to sign them before they are written: a policy server.

spec: server-server-api/#policy-servers (MOD-07)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from homeserver.events.event import Event
from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import NotReady
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Append, Conflict, TransactionId
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable

PlanT = TypeVar("PlanT")

MAX_TRIES = 20
"""Loads, and times that the room has moved on while the other server was asked."""


class Countersigner(Protocol):
    """Has events signed by somebody else. Fulfilled by `federation`, for rooms with a policy server."""

    def concerns(self, room: Room) -> bool:
        """Whether what is written to the room may have to be shown to somebody. From memory."""
        ...

    async def sign(self, room: Room, event: Event) -> Event:
        """The event with the signature added. Raises the `MatrixError` that the client is told where it is refused."""
        ...


Build = Callable[[Room, PlanT, TransactionId | None], list[EventEntry]]
Fetch = Callable[[NotReady], Awaitable[None]]


class Countersigning(Generic[PlanT]):
    """Writes what was signed, as `GraphWriter` does without. Owns the turns of rooms: in each, one event is shown at a time."""

    def __init__(
        self,
        countersigner: Countersigner,
        log: LogWriter,
        tail: Tail,
        rooms: Rooms,
        writer: tuple[Build[PlanT], Fetch],
    ) -> None:
        """`writer`: how the graph writer builds the events of a plan, and loads what is not in memory."""
        self._countersigner = countersigner
        self._log = log
        self._tail = tail
        self._rooms = rooms
        self._build, self._fetch = writer
        self._turns = KeyedLocks()

    def concerns(self, room: Room) -> bool:
        """See `Countersigner`."""
        return self._countersigner.concerns(room)

    async def append(self, room_nid: int, plan: PlanT, wish: Append) -> list[PersistedEvent]:
        """As `GraphWriter.append`. Nothing flies while the other server is asked: if the room moves on, all is done anew.

        `wish`: an append without its entries.
        """
        async with self._turns.of(room_nid):
            for _ in range(MAX_TRIES):
                entries = await self._signed(room_nid, plan, wish.txn)
                if entries is None:
                    continue
                if not entries:
                    return []
                if await self._write(room_nid, entries, wish):
                    return [entry.persisted for entry in entries]
        raise Unavailable("The room is too busy, try again")

    async def _signed(
        self, room_nid: int, plan: PlanT, txn: TransactionId | None
    ) -> Sequence[EventEntry] | None:
        """None: something had to be loaded first."""
        room = await self._rooms.get(room_nid)
        mark = room.mark()
        try:
            entries = self._build(room, plan, txn)
        except NotReady as need:
            await self._fetch(need)
            return None
        room.back_to(mark)
        for entry in entries:
            entry.persisted.become(await self._countersigner.sign(room, entry.persisted.event))
        return entries

    async def _write(self, room_nid: int, entries: Sequence[EventEntry], wish: Append) -> bool:
        """False: the room has moved on."""
        room = await self._rooms.get(room_nid)
        if room.head_extremities != entries[0].base:
            return False
        for entry in entries:
            room.fly(entry)
        try:
            await self._log.add(Append(entries, wish.txn, wish.alongside, wish.cause))
        except Conflict:
            room.give_up(entries)
            await self._tail.fresh()
            return False
        except Exception:
            room.give_up(entries)
            raise
        return True
