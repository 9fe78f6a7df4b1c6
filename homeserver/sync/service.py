"""One `/sync` request: build an answer, or wait until there is something to say and build it then.

spec: client-server-api/#get_matrixclientv3sync (SYNC-01 to SYNC-03, SYNC-22)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from homeserver.events.filtering import Filter
from homeserver.graph.interning import Interning
from homeserver.log.entries import Position
from homeserver.log.tail import Tail
from homeserver.matrix.errors import InvalidParam
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock
from homeserver.sync.assemble import assemble, has_news
from homeserver.sync.audiences import Audiences
from homeserver.sync.notifier import Notifier
from homeserver.sync.rooms.stream import RoomsPart, RoomsStream
from homeserver.sync.stretch import Stretch
from homeserver.sync.stretches import Stretches
from homeserver.sync.types import NO_NEWS, Ask, Counts, Ignores, JoinedRooms, Part, PresenceTouch, Stream
from homeserver.web.auth import Requester

Presence = Literal["online", "offline", "unavailable"]


class Wish(NamedTuple):
    """What a client asks for."""

    since: Position | None
    to_device: Position
    filter: Filter
    timeout_ms: int
    full_state: bool
    state_after: str | None
    """The name under which the client wants `state_after`; None: it wants `state`."""
    set_presence: Presence


class SyncService:
    """One per process."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        tail: Tail,
        memberships: Memberships,
        interning: Interning,
        rooms: RoomsStream,
        streams: Sequence[Stream],
        notifier: Notifier,
        audiences: Audiences,
        stretches: Stretches,
        ignores: Ignores,
        presence: PresenceTouch,
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._tail = tail
        self._memberships = memberships
        self._interning = interning
        self._rooms = rooms
        self._notifier = notifier
        self._ignores = ignores
        self._presence = presence
        self._counts = counts
        self._clock = clock
        self._stretches = stretches
        audiences.add(rooms.audiences())
        self._everything = list(streams)
        self._always = [stream for stream in streams if stream.always_asked]
        self._reads = [(stream, frozenset(stream.audiences())) for stream in streams]
        """Each with the entries it reads."""
        for stream in streams:
            audiences.add(stream.audiences())

    async def sync(self, requester: Requester, wish: Wish) -> Iterator[bytes]:
        """The answer, in pieces. Raises `InvalidParam` for a token from the future."""
        if wish.since is not None and not 0 <= wish.since <= self._tail.position:
            await self._tail.fresh()
            if not 0 <= wish.since <= self._tail.position:
                raise InvalidParam("since: not a token of this server")
        if wish.since is not None and (known := self._tail.lost(wish.since)) is not None:
            # The rooms are not as the client has them any more: tell them whole.
            wish = wish._replace(since=known, full_state=True)
        await self._presence.touch(requester, wish.set_presence)
        deadline = self._clock.monotonic() + wish.timeout_ms / 1000
        at_once = wish.since is None or wish.full_state
        upto = self._tail.position
        if at_once or upto > wish.to_device:
            ask, rooms, parts = await self._build(requester, wish)
            if at_once or has_news(rooms, parts):
                return await self._assemble(rooms, parts, ask)
            upto = ask.upto
        while await self._wait(requester, upto, deadline - self._clock.monotonic()):
            ask, rooms, parts = await self._build(requester, wish)
            if has_news(rooms, parts):
                return await self._assemble(rooms, parts, ask)
            upto = ask.upto
        ask, rooms, parts = await self._build(requester, wish)
        return await self._assemble(rooms, parts, ask)

    async def _ask(self, requester: Requester, wish: Wish) -> Ask:
        user = await self._memberships.of(requester.user_nid)
        unwanted = await self._ignores.of(requester.user_nid)
        # From here on nothing is awaited: position, memberships and the slice belong together.
        upto = self._tail.position
        recent = self._stretches.between(wish.since, upto) if wish.since is not None else None
        return Ask(
            requester,
            wish.filter,
            wish.since,
            upto,
            self._clock.now_ms(),
            wish.full_state,
            wish.state_after,
            user.rooms,
            user.joined,
            recent,
            unwanted,
            wish.to_device,
        )

    async def _build(self, requester: Requester, wish: Wish) -> tuple[Ask, RoomsPart, list[Part]]:
        ask = await self._ask(requester, wish)
        if not self._may_have_news(ask):
            joined = JoinedRooms({}, ask.joined, frozenset())
            return ask, RoomsPart(), await self._parts(ask, joined, self._always)
        rooms, joined = await self._rooms.changes(ask)
        streams = self._everything if joined.new else self._readers(ask.recent)
        parts = await self._parts(ask, joined, streams)
        if parts and ask.filter.room.chooses_sections:
            await self._choose_rooms(ask, parts)
        return ask, rooms, parts

    @staticmethod
    async def _parts(ask: Ask, joined: JoinedRooms, streams: Iterable[Stream]) -> list[Part]:
        """What they have to say: of those that have something."""
        parts: list[Part] = []
        for stream in streams:
            part = await stream.changes(ask, joined)
            if part is not NO_NEWS:
                parts.append(part)
        return parts

    def _readers(self, stretch: Stretch | None) -> Sequence[Stream]:
        """The streams that read something that is in the stretch."""
        if stretch is None:
            return self._everything
        found: Sequence[Stream] | None = stretch.shared.get(SyncService)
        if found is None:
            found = [
                stream
                for stream, reads in self._reads
                if stream.always_asked or not reads.isdisjoint(stretch.kinds)
            ]
            stretch.shared[SyncService] = found
        return found

    def _may_have_news(self, ask: Ask) -> bool:
        """False if the log holds nothing that concerns the user."""
        if ask.since is None or ask.recent is None or ask.full_state:
            return True
        return self._stretches.concern(ask.since, ask.upto).reaches(ask.requester.user_nid, ask.joined)

    async def _choose_rooms(self, ask: Ask, parts: Sequence[Part]) -> None:
        """Leave out what a section's filter wants of other rooms alone. spec: #filtering (FILT-03)"""
        wanted = {"ephemeral": ask.filter.room.ephemeral, "account_data": ask.filter.room.account_data}
        for member, chosen in wanted.items():
            if not chosen.chooses_rooms:
                continue
            for part in parts:
                names = await self._interning.rooms(part.rooms.keys())
                for nid in [nid for nid in part.rooms if not chosen.wants_room(names[nid].room_id)]:
                    part.rooms[nid].pop(member, None)
                    if not part.rooms[nid]:
                        del part.rooms[nid]

    async def _wait(self, requester: Requester, upto: Position, seconds: float) -> bool:
        """Until there may be news; False when the time is over or the server is closing."""
        if seconds <= 0:
            return False
        if self._tail.position > upto:
            return True
        return await self._notifier.wait(requester.user_nid, seconds)

    async def _assemble(self, rooms: RoomsPart, parts: list[Part], ask: Ask) -> Iterator[bytes]:
        joined = set(rooms.join)
        for part in parts:
            joined.update(part.rooms)
        names = await self._interning.rooms({*joined, *rooms.leave, *rooms.invite, *rooms.knock})
        if joined:
            # Whichever way a joined room comes into the answer, clients take missing counts of threads for none.
            counts = await self._counts.of(ask, {nid: names[nid] for nid in joined})
            parts = [*parts, Part(rooms=counts)]
        return assemble(rooms, parts, names, ask)
