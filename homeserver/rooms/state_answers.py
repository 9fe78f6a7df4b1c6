"""The state of a room as clients read it, kept as the bytes that answers are made of: `/state`, `/members`, `/joined_members`.

Of an event only little differs from one reader to the next: how old it is, whether the reader was in the room then, and whether
they may see what it replaced. What is the same for all is found once for each state of a room and kept until the log says that
the state, or something in it, has changed.

spec: client-server-api/#getting-events-for-a-room (ROOM-18 to ROOM-20)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from homeserver.events.client_format import room_member
from homeserver.graph.entry import BackfillEntry, EventEntry, RedactedEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read.visibility import Viewer, as_state, plain_after
from homeserver.graph.refs import JOIN, MEMBERSHIPS
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn, pieces

MEMBER = "m.room.member"
EVENTS_AT_ONCE = 500
"""Put together in one turn of the event loop."""
RENDERED_AT_ONCE = 5_000
"""Of those that were put together before, as many are told in one turn."""
SHARE = 2.0
LARGEST = 4
"""What is kept of one room may take this part of the memory of all caches; of larger ones nothing is kept."""
ROOM_BYTES, EVENT_BYTES = 1_000, 150
"""What is kept of a room takes, and of each event beside its own bytes."""
_age = b',"unsigned":{"age":%d'.__mod__


class Asked(NamedTuple):
    """Which membership events: of one membership, or of any but one; both None: all."""

    membership: str | None = None
    not_membership: str | None = None

    def wants(self, membership: str | None) -> bool:
        """Both conditions combine as OR (ROOM-19)."""
        if membership not in MEMBERSHIPS:
            return False
        if self.membership is None and self.not_membership is None:
            return True
        return membership == self.membership or (
            self.not_membership is not None and membership != self.not_membership
        )


class _Shown:
    """Some events of a state, by their numbers, as far as they are the same for all readers."""

    __slots__ = (
        "apart",
        "heads",
        "joined",
        "newest",
        "nids",
        "room_id",
        "sent",
        "size",
        "stamps",
        "with_previous",
    )

    def __init__(self, room_id: bytes) -> None:
        """`room_id`: the member of that name, as `room_member` makes it."""
        self.room_id = room_id
        self.nids: list[int] = []
        self.stamps: list[int] = []
        self.newest = 0
        """The greatest of `stamps`."""
        self.heads: list[bytes] = []
        """Up to `unsigned`."""
        self.apart: list[bytes] = []
        """After the age, with a comma behind the event: where it is not told that the reader was in the room."""
        self.joined: list[bytes] = []
        """… where it is."""
        self.with_previous: list[tuple[int, int, bytes]] = []
        """Of those that replaced an event: its number, the place here, and `joined` with what it replaced."""
        self.sent: dict[int, list[int]] = {}
        """user_nid -> places of events of which the sender is told more."""
        self.size = 0

    def add(self, persisted: PersistedEvent) -> None:
        """The next event, in the order of their numbers."""
        place, stamp = len(self.nids), persisted.event.origin_server_ts
        self.nids.append(persisted.nid)
        self.stamps.append(stamp)
        self.newest = max(self.newest, stamp)
        self.heads.append(persisted.unclosed)
        self.apart.append(self._tail(persisted, None, previous=False))
        branched = persisted.branched
        self.joined.append(self.apart[-1] if branched else self._tail(persisted, JOIN, previous=False))
        if persisted.replaced is not None and not branched:
            tail = self._tail(persisted, JOIN, previous=True)
            self.with_previous.append((persisted.replaced.ref.nid, place, tail))
            self.size += len(tail)
        if persisted.sent_by is not None:
            self.sent.setdefault(persisted.sent_by.user_nid, []).append(place)
        self.size += EVENT_BYTES + len(persisted.unclosed) + len(self.apart[-1]) + len(self.joined[-1])

    def _tail(self, persisted: PersistedEvent, membership: int | None, *, previous: bool) -> bytes:
        return b"%b}%b}," % (persisted.after_age(membership, previous=previous), self.room_id)

    def has(self, nid: int) -> bool:
        """Whether an event is among them."""
        place = bisect_left(self.nids, nid)
        return place < len(self.nids) and self.nids[place] == nid

    async def array(
        self, plain: Position, now_ms: int, own: Mapping[int, bytes], around: tuple[bytes, bytes]
    ) -> bytes:
        """The JSON array for a reader, between `around`. `plain`: as `plain_after` says. `own`: place -> the whole event, of
        those that are shown to them otherwise than to others.
        """
        before, after = around
        first = bisect_right(self.nids, plain)
        previous = {place: tail for nid, place, tail in self.with_previous if nid > plain}
        said: list[bytes] = [before]
        for some in pieces(range(len(self.nids)), RENDERED_AT_ONCE):
            if len(self.nids) > RENDERED_AT_ONCE:
                await next_turn()
            said.append(self._some(slice(some[0], some[-1] + 1), first, now_ms, (own, previous)))
        said[-1] = said[-1].removesuffix(b",")
        # Joined once, with what stands around it: copies of a megabyte are what such an answer costs.
        return b"".join([*said, after])

    def _some(
        self, of: slice, first: int, now_ms: int, apart: tuple[Mapping[int, bytes], Mapping[int, bytes]]
    ) -> bytes:
        """Events one after the other, with a comma behind each. `first`: place from which on the reader was in the room.
        `apart`: by place, whole events and tails that are told otherwise than to others.
        """
        own, previous = apart
        begin = of.start
        within = max(begin, min(first, of.stop))
        tails = self.apart[begin:within] + self.joined[within : of.stop]
        parts = [b""] * (3 * len(tails))
        parts[0::3], parts[2::3] = self.heads[of], tails
        ages: Iterable[int] = map(now_ms.__sub__, self.stamps[of])
        if self.newest > now_ms:
            ages = [max(0, age) for age in ages]
        parts[1::3] = map(_age, ages)
        for place in _within(previous, of):
            parts[3 * (place - begin) + 2] = previous[place]
        for place in _within(own, of):
            at = 3 * (place - begin)
            parts[at : at + 3] = own[place], b"", b","
        return b"".join(parts)


def _within(places: Mapping[int, bytes], of: slice) -> Iterable[int]:
    """Those of the places that are in the slice."""
    if len(places) < of.stop - of.start:
        return [place for place in places if of.start <= place < of.stop]
    return [place for place in range(of.start, of.stop) if place in places]


class _OfRoom:
    """What is kept of a room as it is."""

    __slots__ = ("joined", "shown", "size")

    def __init__(self) -> None:
        self.shown: dict[Asked | None, _Shown] = {}
        """None: the whole state."""
        self.joined: bytes | None = None
        self.size = ROOM_BYTES


class StateAnswers:
    """Answers of rooms as they are. Owns what is kept of them; a projection of the log, which says when it holds no longer."""

    def __init__(self, rooms: Rooms, events: EventCache, clock: Clock, memory: MemoryBudget) -> None:
        self._current = rooms
        self._events = events
        self._clock = clock
        self._largest = memory.limit // LARGEST
        self._rooms: Cache[int, _OfRoom] = memory.cache("state_answers", SHARE)

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {
            EventEntry: Narrowed(self._applied, touches_state),
            BackfillEntry: self._changed,
            RedactedEntry: self._changed,
        }

    def reset(self) -> None:
        self._rooms.clear()

    def _applied(self, _: Position, entry: EventEntry) -> None:
        self._rooms.pop(entry.persisted.room_nid)

    def _changed(self, _: Position, entry: BackfillEntry | RedactedEntry) -> None:
        self._rooms.pop(entry.room_nid)

    async def state(self, reader: Reader, viewer: Viewer, room: Room) -> bytes:
        """The room's state: the whole answer, oldest first."""
        return await self._array(reader, viewer, room, None)

    async def members(self, reader: Reader, viewer: Viewer, room: Room, asked: Asked) -> bytes:
        """Its membership events: the whole answer, oldest first."""
        return await self._array(reader, viewer, room, asked)

    async def joined_members(self, room: Room) -> bytes:
        """Who is joined, with `display_name` and `avatar_url`: the whole answer."""
        of_room = self._of(room)
        if (kept := of_room.joined) is not None:
            return kept
        nids = [member.event_nid for member in room.members.values() if member.membership == JOIN]
        found: list[bytes] = []
        async for loaded in self._loaded(nids):
            found += [persisted.joined_member for persisted in loaded]
        made = b'{"joined":{%b}}' % b",".join(found)
        if of_room.joined is None and self._may_keep(room, of_room, len(made)):
            of_room.joined = made
        return made

    # --- inside --------------------------------------------------------------------------------------------------

    async def _array(self, reader: Reader, viewer: Viewer, room: Room, asked: Asked | None) -> bytes:
        of_room = self._of(room)
        shown = of_room.shown.get(asked)
        if shown is None:
            shown = await self._made(room, asked)
            if asked not in of_room.shown and self._may_keep(room, of_room, shown.size):
                of_room.shown[asked] = shown
        plain = plain_after(room, viewer)
        now_ms = self._clock.now_ms()
        own = await self._own(reader, viewer, plain, room, shown)
        around = (b"[", b"]") if asked is None else (b'{"chunk":[', b"]}")
        return await shown.array(plain, now_ms, own, around)

    def _of(self, room: Room) -> _OfRoom:
        """What is kept of the room, or where it can be put."""
        nid = room.name.nid
        of_room = self._rooms.get(nid)
        if of_room is None:
            of_room = _OfRoom()
            if self._current.cached(nid) is room:  # else nobody tells the one at hand what changes
                self._rooms.put(nid, of_room, of_room.size)
        return of_room

    def _may_keep(self, room: Room, of_room: _OfRoom, size: int) -> bool:
        """Whether something that was made can be kept: nothing of the room has changed since `_of`, and it is not too much."""
        nid = room.name.nid
        if self._rooms.get(nid) is not of_room or of_room.size + size > self._largest:
            return False
        of_room.size += size
        self._rooms.resize(nid, of_room.size)
        return True

    async def _made(self, room: Room, asked: Asked | None) -> _Shown:
        shown = _Shown(room_member(room.name.room_id))
        if asked is None:
            nids = sorted(room.state.values())
        else:
            nids = sorted(nid for (kind, _), nid in room.state.items() if kind == MEMBER)
        async for loaded in self._loaded(nids):
            for persisted in loaded:
                if asked is None or asked.wants(persisted.event.membership):
                    shown.add(persisted)
        return shown

    async def _loaded(self, nids: Sequence[int]) -> AsyncIterator[list[PersistedEvent]]:
        """Events in the order of `nids`, those that exist; some in each turn of the event loop."""
        for some in pieces(nids, EVENTS_AT_ONCE):
            if len(nids) > EVENTS_AT_ONCE:
                await next_turn()
            loaded = await self._events.load(some)
            yield [loaded[nid] for nid in some if nid in loaded]

    async def _own(
        self, reader: Reader, viewer: Viewer, plain: Position, room: Room, shown: _Shown
    ) -> dict[int, bytes]:
        """Place -> the whole event, of what is shown otherwise to its sender, or to whom it is about, than to others."""
        nids = [shown.nids[place] for place in shown.sent.get(reader.user_nid, ())]
        member = room.members.get(viewer.user_id)
        if member is not None and shown.has(member.event_nid):
            nids.append(member.event_nid)
        rendered: dict[int, bytes] = {}
        async for loaded in self._loaded(nids):
            now_ms = self._clock.now_ms()
            for persisted in loaded:
                item = as_state(plain, viewer, persisted)
                event = persisted.render(
                    reader, item.membership, now_ms, item.previous, members=shown.room_id
                )
                rendered[bisect_left(shown.nids, persisted.nid)] = event
        return rendered
