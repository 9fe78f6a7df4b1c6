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
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.notifier import Notifier
from homeserver.sync.recipients import RecipientIndex
from homeserver.sync.types import (
    NO_NEWS,
    Counts,
    Ignores,
    JoinedRooms,
    Part,
    PresenceTouch,
    Stream,
    SyncRequest,
)
from homeserver.sync.v3.assemble import assemble, has_news
from homeserver.sync.v3.rooms import RoomsPart, RoomsStream
from homeserver.web.auth import Requester

Presence = Literal["online", "offline", "unavailable"]


class SyncParameters(NamedTuple):
    """What a client asks for."""

    since: Position | None
    to_device: Position
    filter: Filter
    timeout_ms: int
    full_state: bool
    state_after: str | None
    """The name under which the client wants `state_after`; None: it wants `state`."""
    set_presence: Presence
    profiles: int | None = None
    """See `SyncRequest.profiles`."""

    @property
    def at_once(self) -> bool:
        """Whether it is answered without waiting for news."""
        return self.since is None or self.full_state or self.profiles is not None


class SyncService:
    """Answers `/sync`. Owns the list of streams, and which entries each of them reads."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        tail: Tail,
        memberships: Memberships,
        interning: Interning,
        rooms: RoomsStream,
        streams: Sequence[Stream],
        notifier: Notifier,
        recipients: RecipientIndex,
        log_slices: LogSlices,
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
        self._log_slices = log_slices
        recipients.add(rooms.recipients())
        self._everything = list(streams)
        self._always = [stream for stream in streams if stream.always_asked]
        self._reads = [(stream, frozenset(stream.recipients())) for stream in streams]
        """Each with the entries it reads."""
        for stream in streams:
            recipients.add(stream.recipients())

    async def sync(self, requester: Requester, parameters: SyncParameters) -> Iterator[bytes]:
        """The answer, in pieces. Raises `InvalidParam` for a token from the future."""
        if parameters.since is not None and not 0 <= parameters.since <= self._tail.position:
            await self._tail.fresh()
            if not 0 <= parameters.since <= self._tail.position:
                raise InvalidParam("since: not a token of this server")
        if parameters.since is not None and (known := self._tail.lost(parameters.since)) is not None:
            # The rooms are not as the client has them any more: tell them whole.
            parameters = parameters._replace(since=known, full_state=True)
        await self._presence.touch(requester, parameters.set_presence)
        deadline = self._clock.monotonic() + parameters.timeout_ms / 1000
        upto = self._tail.position
        if parameters.at_once or upto > parameters.to_device:
            request, rooms, parts = await self._build(requester, parameters)
            if parameters.at_once or has_news(rooms, parts):
                return await self._assemble(rooms, parts, request)
            upto = request.upto
        while await self._wait(requester, upto, deadline - self._clock.monotonic()):
            request, rooms, parts = await self._build(requester, parameters)
            if has_news(rooms, parts):
                return await self._assemble(rooms, parts, request)
            upto = request.upto
        request, rooms, parts = await self._build(requester, parameters)
        return await self._assemble(rooms, parts, request)

    async def _request(self, requester: Requester, parameters: SyncParameters) -> SyncRequest:
        user = await self._memberships.of(requester.user_nid)
        unwanted = await self._ignores.of(requester.user_nid)
        # From here on nothing is awaited: position, memberships and the slice belong together.
        upto = self._tail.position
        recent = self._log_slices.between(parameters.since, upto) if parameters.since is not None else None
        return SyncRequest(
            requester,
            parameters.filter,
            parameters.since,
            upto,
            self._clock.now_ms(),
            parameters.full_state,
            parameters.state_after,
            user.rooms,
            user.joined,
            recent,
            unwanted,
            parameters.to_device,
            parameters.profiles,
        )

    async def _build(
        self, requester: Requester, parameters: SyncParameters
    ) -> tuple[SyncRequest, RoomsPart, list[Part]]:
        request = await self._request(requester, parameters)
        if not self._may_have_news(request):
            joined = JoinedRooms({}, request.joined, frozenset())
            return request, RoomsPart(), await self._parts(request, joined, self._always)
        rooms, joined = await self._rooms.changes(request)
        everything = joined.new or request.profiles is not None
        streams = self._everything if everything else self._readers(request.recent)
        parts = await self._parts(request, joined, streams)
        if parts and request.filter.room.chooses_sections:
            await self._choose_rooms(request, parts)
        return request, rooms, parts

    @staticmethod
    async def _parts(request: SyncRequest, joined: JoinedRooms, streams: Iterable[Stream]) -> list[Part]:
        """What they have to say: of those that have something."""
        parts: list[Part] = []
        for stream in streams:
            part = await stream.changes(request, joined)
            if part is not NO_NEWS:
                parts.append(part)
        return parts

    def _readers(self, log_slice: LogSlice | None) -> Sequence[Stream]:
        """The streams that read something that is in the slice."""
        if log_slice is None:
            return self._everything
        found: Sequence[Stream] | None = log_slice.shared.get(SyncService)
        if found is None:
            found = [
                stream
                for stream, reads in self._reads
                if stream.always_asked or not reads.isdisjoint(log_slice.kinds)
            ]
            log_slice.shared[SyncService] = found
        return found

    def _may_have_news(self, request: SyncRequest) -> bool:
        """False if the log holds nothing that concerns the user."""
        if request.since is None or request.recent is None or request.full_state:
            return True
        if request.profiles is not None:
            return True
        return self._log_slices.concern(request.since, request.upto).reaches(
            request.requester.user_nid, request.joined
        )

    async def _choose_rooms(self, request: SyncRequest, parts: Sequence[Part]) -> None:
        """Leave out what a section's filter wants of other rooms alone. spec: #filtering (FILT-03)"""
        wanted = {
            "ephemeral": request.filter.room.ephemeral,
            "account_data": request.filter.room.account_data,
        }
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
        return await self._notifier.wait(requester, seconds)

    async def _assemble(self, rooms: RoomsPart, parts: list[Part], request: SyncRequest) -> Iterator[bytes]:
        joined = set(rooms.join)
        for part in parts:
            joined.update(part.rooms)
        names = await self._interning.rooms({*joined, *rooms.leave, *rooms.invite, *rooms.knock})
        if joined:
            # Whichever way a joined room comes into the answer, clients take missing counts of threads for none.
            counts = await self._counts.of(request, {nid: names[nid] for nid in joined})
            parts = [*parts, Part(rooms=counts)]
        return assemble(rooms, parts, names, request)
