"""Transactions of other servers: what is refused at once, what is staged, and the answer.

A transaction is answered when its events are in their room or durably staged, and its EDUs are handled. Who asks again, while it
is under way or after the answer was lost, gets the same answer, and nothing is done twice.

spec: server-server-api/#transactions (FED-08, FED-09)
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from federation.inbound import store
from federation.inbound.acl import ServerAcls
from federation.inbound.at_once import AtOnce
from federation.inbound.edus import EduDispatcher
from federation.inbound.service import LEASE, Inbound
from federation.inbound.types import Full, Pdu
from federation.ports import Checked, EventChecker, Partners
from homeserver.events.event import Event
from homeserver.events.parse import EventFormatError, parse_event
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.refs import INVITE, KNOCK
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix import json
from homeserver.matrix.errors import LimitExceeded, Unavailable
from homeserver.matrix.ids import RoomId, ServerName, UserId, is_event_id
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.federation.inbound")

MAX_AT_ONCE: Final = 3
"""Transactions of one origin under way in a process. It has to send one after the other; one more may follow a lost connection."""
MAX_UNDER_WAY: Final = 200
"""Transactions of all origins under way in a process: each is up to some megabytes."""
MAX_EVENTS: Final = 5_000
MAX_BYTES: Final = 64 << 20
"""What one origin may have staged."""
MAX_TOTAL_BYTES: Final = 2 << 30
MAX_TOTAL_EVENTS: Final = 500_000
"""What may be staged in all: beyond it everybody is told to come back."""
REMEMBERED: Final = 2_000
"""Answers kept in memory."""
NOT_HERE: Final = "Nobody here is in this room"
BUSY_MS: Final = 2_000
FULL_MS: Final = 10_000
PARSED_AT_ONCE: Final = 10


class Endings(Protocol):
    """Takes events that end an invite or a knock of ours in a room that nobody here is in. Fulfilled by `federation.handshakes`."""

    async def ended(self, room: Room, event: Event) -> bool:
        """Whether it does. Signatures are checked."""
        ...


class Joins(Protocol):
    """Joins of ours that are under way. Fulfilled by `federation.handshakes`."""

    async def ended(self, room_ids: Collection[RoomId]) -> bool:
        """False at once if none of these rooms is being joined. True when those that are have been, could not be, or take long."""
        ...


class _Names(msgspec.Struct):
    """What of a PDU says where it belongs."""

    room_id: str
    event_id: str | msgspec.UnsetType = msgspec.UNSET


class _Sorted(NamedTuple):
    """The PDUs of a transaction."""

    good: list[Pdu]
    answers: dict[str, dict[str, str]]


_decode_names = msgspec.json.Decoder(_Names).decode


class Transactions:
    """Takes transactions. Owns those that are under way in this process, and the last answers."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        interning: Interning,
        rooms: Rooms,
        acls: ServerAcls,
        edus: EduDispatcher,
        inbound: Inbound,
        at_once: AtOnce,
        checker: EventChecker,
        partners: Partners,
    ) -> None:
        self._db = db
        self._interning = interning
        self._rooms = rooms
        self._acls = acls
        self._edus = edus
        self._inbound = inbound
        self._at_once = at_once
        self._checker = checker
        self._partners = partners
        self._endings: Endings | None = None
        self._joins: Joins | None = None
        self._under_way: dict[tuple[ServerName, str], asyncio.Future[bytes]] = {}
        self._per_origin: Counter[ServerName] = Counter()
        self._answered: OrderedDict[tuple[ServerName, str], bytes] = OrderedDict()

    def end_with(self, endings: Endings) -> None:
        """Who takes what ends invites and knocks."""
        self._endings = endings

    def wait_for(self, joins: Joins) -> None:
        """Who knows which rooms this server is about to be in."""
        self._joins = joins

    async def receive(
        self, origin: ServerName, txn_id: str, pdus: Sequence[msgspec.Raw], edus: Sequence[msgspec.Raw]
    ) -> bytes:
        """The answer, as JSON. Raises `LimitExceeded` and `Unavailable`: the origin has to try again later."""
        key = (origin, txn_id)
        answered = self._answered.get(key)
        if answered is not None:
            return answered
        under_way = self._under_way.get(key)
        if under_way is not None:
            return await asyncio.shield(under_way)
        if self._per_origin[origin] >= MAX_AT_ONCE or len(self._under_way) >= MAX_UNDER_WAY:
            raise LimitExceeded(BUSY_MS)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        self._per_origin[origin] += 1
        try:
            answer = await self._process(origin, txn_id, pdus, edus)
            future.set_result(answer)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else Unavailable("Try again"))
            future.exception()  # nobody may be waiting
            raise
        finally:
            del self._under_way[key]
            self._per_origin[origin] -= 1
            if not self._per_origin[origin]:
                del self._per_origin[origin]
        self._remember(key, answer)
        return answer

    def _remember(self, key: tuple[ServerName, str], answer: bytes) -> None:
        self._answered[key] = answer
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    async def _process(
        self, origin: ServerName, txn_id: str, pdus: Sequence[msgspec.Raw], edus: Sequence[msgspec.Raw]
    ) -> bytes:
        self._partners.admit_pdus(origin, len(pdus))
        staged = await self._sort(origin, pdus)
        answer = json.dumps({"pdus": staged.answers})
        if not staged.good:
            await self._edus.dispatch(origin, edus)
            return answer
        if not edus:
            return await self._keep((origin, txn_id, answer), staged)
        # Both must be done before the answer: what was answered is not sent again.
        results = await asyncio.gather(
            self._keep((origin, txn_id, answer), staged),
            self._edus.dispatch(origin, edus),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results[0] if isinstance(results[0], bytes) else answer

    async def _keep(self, transaction: tuple[ServerName, str, bytes], sorted_: _Sorted) -> bytes:
        """The events are in their room, or staged. The answer, which may be an earlier one."""
        rooms = {pdu.room_nid for pdu in sorted_.good}
        if len(rooms) == 1:
            room = await self._rooms.get(*rooms)
            if await self._at_once.take(room, [pdu.event for pdu in sorted_.good], transaction):
                return transaction[2]
        return await self._stage(*transaction, sorted_.good)

    async def _stage(self, origin: ServerName, txn_id: str, answer: bytes, pdus: Sequence[Pdu]) -> bytes:
        inbound = self._inbound
        if inbound.bytes_staged > MAX_TOTAL_BYTES or inbound.events_staged > MAX_TOTAL_EVENTS:
            raise Unavailable("Too much waits to be worked on, try again later")
        owner = inbound.owner if inbound.takes else None
        asked = asyncio.get_running_loop().time()
        try:
            found = await store.stage(
                self._db, origin, txn_id, answer, pdus, owner, LEASE, (MAX_EVENTS, MAX_BYTES)
            )
        except Full:
            raise LimitExceeded(FULL_MS, "Too much of this server waits to be worked on") from None
        others = inbound.staged(found.rooms, asked)
        if others:
            async with self._db.transaction() as tx:
                await store.notify(tx, others)
        return answer if found.repeated is None else found.repeated

    # --- what is refused at once -------------------------------------------------------------------------------------

    async def _sort(self, origin: ServerName, pdus: Sequence[msgspec.Raw]) -> _Sorted:
        """Step 1 of what is done with a PDU, and the ACL of its room (ACL-03)."""
        named: list[tuple[_Names, bytes]] = []
        for pdu in pdus:
            text = bytes(pdu)
            try:
                named.append((_decode_names(text), text))
            except msgspec.MsgspecError:  # without a room nothing can be said of it, not even its id
                _log.info("inbound.dropped", origin=origin, reason="no object with a room ID")
        room_ids = {RoomId(each.room_id) for each, _ in named}
        names, objections = await self._places(origin, room_ids)
        strange = {each for each in room_ids if objections.get(each, NOT_HERE) == NOT_HERE}
        if strange and self._joins is not None and await self._joins.ended(strange):
            names, objections = await self._places(origin, room_ids)
        sorted_ = _Sorted([], {})
        for piece in pieces(named, PARSED_AT_ONCE):
            await next_turn()
            for each, text in piece:
                name = names.get(RoomId(each.room_id))
                objection = objections.get(RoomId(each.room_id), NOT_HERE)
                said = (
                    each.event_id if isinstance(each.event_id, str) and is_event_id(each.event_id) else None
                )
                if name is not None:
                    await self._sort_one(origin, (name, text, said), objection, sorted_)
                elif said is not None:
                    sorted_.answers[said] = {"error": NOT_HERE}
        return sorted_

    async def _places(
        self, origin: ServerName, room_ids: Collection[RoomId]
    ) -> tuple[Mapping[RoomId, RoomIdentity], Mapping[RoomId, str | None]]:
        """Those of the rooms that are known here, and what speaks against taking something in them."""
        names = await self._interning.find_rooms(room_ids)
        return names, {name.room_id: await self._objection(origin, name) for name in names.values()}

    async def _objection(self, origin: ServerName, name: RoomIdentity) -> str | None:
        """Why nothing of this origin is taken in a room; None: it is."""
        room = await self._rooms.get(name.nid)
        objection = await self._acls.objection(room, origin)
        if objection is not None:
            return objection
        return None if room.local_joined else NOT_HERE

    async def _sort_one(
        self,
        origin: ServerName,
        pdu: tuple[RoomIdentity, bytes, str | None],
        objection: str | None,
        sorted_: _Sorted,
    ) -> None:
        """`pdu`: its room, itself, and what it says its id is."""
        name, text, said = pdu
        try:
            event = parse_event(text, name.version)
        except EventFormatError as error:
            _log.info("inbound.dropped", room=name.room_id, reason=str(error)[:200])
            if said is not None:
                sorted_.answers[said] = {"error": str(error)[:200]}
            return
        if objection is None:
            self._partners.done(origin, "events", name.room_id)
            sorted_.good.append(Pdu(name.nid, event))
        elif objection == NOT_HERE and await self._ended(name, event):
            objection = None
        sorted_.answers[event.event_id] = {} if objection is None else {"error": objection}

    async def _ended(self, name: RoomIdentity, event: Event) -> bool:
        """Whether it ends an invite or a knock; signatures are checked only of what may."""
        if self._endings is None or event.membership not in {"leave", "ban"} or event.state_key is None:
            return False
        room = await self._rooms.get(name.nid)
        member = room.members.get(UserId(event.state_key))
        if member is None or not member.local or member.membership not in {INVITE, KNOCK}:
            return False
        (checked,) = await self._checker.check([event.pdu], name.version)
        return isinstance(checked, Checked) and await self._endings.ended(room, checked.event)
