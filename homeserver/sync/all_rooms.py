"""What clients asked for before `/sync`: a user's whole state, and then what happens, in all rooms together.

Deprecated and still called. Of the whole state one room after the other is read while it is sent; what happens is told as room
events alone, as the specification's schema has it.

spec: op:initialSync, op:getEvents, op:getOneEvent (CHECKLIST SYNC-24)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec

from homeserver.events.filtering import Filter
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.visibility import Viewer, VisibilityFilter
from homeserver.graph.refs import BAN, INVITE, JOIN, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.log.tail import Tail
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import EventId
from homeserver.matrix.tokens import format_token
from homeserver.rooms.memberships import Membership, Memberships
from homeserver.rooms.reading import ReadingService
from homeserver.runtime.clock import Clock
from homeserver.sync.notifier import Notifier
from homeserver.sync.peeking import News, PeekingService
from homeserver.sync.selection.forward import ForwardSelector
from homeserver.sync.types import Ignores, JoinedRooms, PresenceTouch, Stream, SyncRequest, Unwanted
from homeserver.web.auth import Requester

MAX_EVENTS: Final = 100


class _Events(msgspec.Struct):
    """As streams write them."""

    events: msgspec.Raw


class AllRoomsService:
    """Answers `/initialSync` and `/events` of all rooms. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        forward: ForwardSelector,
        tail: Tail,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        visibility: VisibilityFilter,
        bundles: Bundles,
        memberships: Memberships,
        reading: ReadingService,
        peeking: PeekingService,
        notifier: Notifier,
        ignores: Ignores,
        presence: PresenceTouch,
        clock: Clock,
        streams: Mapping[str, Stream],
    ) -> None:
        """`streams`: of `/sync`, by the member of the answer that each gives."""
        self._forward = forward
        self._tail = tail
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._visibility = visibility
        self._bundles = bundles
        self._memberships = memberships
        self._reading = reading
        self._peeking = peeking
        self._notifier = notifier
        self._ignores = ignores
        self._presence = presence
        self._clock = clock
        self._streams = streams

    # --- the whole state -----------------------------------------------------------------------------------------

    async def initial(self, requester: Requester, limit: int, *, archived: bool) -> AsyncIterator[bytes]:
        """JSON in pieces: the user's data, and each room they are in or invited to; with `archived` rooms they have left.

        `limit`: newest messages of each room. What happens while it is made may be in it and after `end`, but is in neither never.
        """
        await self._presence.touch(requester, "online")
        unwanted = await self._ignores.of(requester.user_nid)
        user = await self._memberships.of(requester.user_nid)
        upto = self._tail.position
        parts = [b'"end":' + json.dumps(format_token(upto))]
        for member, stream in self._streams.items():
            parts.append(
                b'"%b":%b' % (member.encode(), await self._of_stream(requester, unwanted, member, stream))
            )
        return self._pieces(requester, unwanted, user.rooms, b"{%b" % b",".join(parts), (limit, archived))

    async def _pieces(
        self,
        requester: Requester,
        unwanted: Unwanted,
        rooms: Mapping[int, Membership],
        start: bytes,
        wanted: tuple[int, bool],
    ) -> AsyncIterator[bytes]:
        limit, archived = wanted
        kinds = (JOIN, INVITE, LEAVE, BAN) if archived else (JOIN, INVITE)
        yield start + b',"rooms":['
        between = b""
        for room_nid, own in rooms.items():
            if own.membership not in kinds or own.forgotten:
                continue
            if own.membership == INVITE:
                shown = await self._invite(requester, unwanted, own)
            else:
                shown = await self._room(requester, room_nid, limit)
            if shown is not None:
                yield between + shown
                between = b","
        yield b"]}"

    async def _room(self, requester: Requester, room_nid: int, limit: int) -> bytes | None:
        names = await self._interning.rooms([room_nid])
        try:
            return await self._peeking.room(requester, names[room_nid].room_id, limit)
        except Forbidden:  # never joined, or gone meanwhile
            return None

    async def _invite(self, requester: Requester, unwanted: Unwanted, own: Membership) -> bytes | None:
        invite = await self._events.one(own.event_nid)
        if invite is None or not _is_wanted(invite, requester, unwanted):
            return None
        [shown] = await self._show(requester, [invite])
        return b'{"room_id":%b,"membership":"invite","invite":%b}' % (
            json.dumps(invite.event.room_id),
            shown,
        )

    async def _of_stream(
        self, requester: Requester, unwanted: Unwanted, member: str, stream: Stream
    ) -> bytes:
        user = await self._memberships.of(requester.user_nid)
        request = SyncRequest(
            requester,
            Filter(),
            None,
            self._tail.position,
            self._clock.now_ms(),
            False,
            None,
            user.rooms,
            user.joined,
            None,
            unwanted,
        )
        part = await stream.changes(request, JoinedRooms({}, user.joined, frozenset()))
        written = part.top.get(member)
        return b"[]" if written is None else bytes(msgspec.json.decode(written, type=_Events).events)

    # --- what happens --------------------------------------------------------------------------------------------

    async def events(self, requester: Requester, since: Position | None, timeout_ms: int) -> News:
        """Room events after `since` (None: after now), once there are any or the time is over.

        Raises `InvalidParam` for a token from the future.
        """
        await self._presence.touch(requester, "online")
        since = self._tail.position if since is None else since
        if not 0 <= since <= self._tail.position:
            await self._tail.fresh()
            if not 0 <= since <= self._tail.position:
                raise InvalidParam("from: not a token of this server")
        start, deadline = since, self._clock.monotonic() + max(timeout_ms, 0) / 1000
        while True:
            unwanted = await self._ignores.of(requester.user_nid)
            user = await self._memberships.of(requester.user_nid)
            upto = self._tail.position
            found, end = await self._forward.after(user.rooms, since, upto, MAX_EVENTS)
            wanted = [event for event in found if _is_wanted(event, requester, unwanted)]
            chunk = await self._show(requester, wanted)
            since, left = end, deadline - self._clock.monotonic()
            if chunk or (end == upto and not await self._news(requester, left)):
                return News(format_token(start), format_token(end), chunk)

    async def _news(self, requester: Requester, seconds: float) -> bool:
        """Wait until something concerns the user; False when the time is over."""
        return seconds > 0 and await self._notifier.wait(requester, seconds)

    async def _show(self, requester: Requester, events: Sequence[PersistedEvent]) -> list[bytes]:
        """Those that the user may see, as JSON, order kept."""
        viewer = Viewer(requester.user_id, requester.user_nid)
        rooms = await self._rooms.get_many({event.room_nid for event in events})
        pages = {room: [event for event in events if event.room_nid == nid] for nid, room in rooms.items()}
        shown: dict[int, bytes] = {}
        for room, seen in (await self._visibility.many(viewer, pages)).items():
            written = await self._bundles.shown(viewer, requester.device_id, room, seen)
            shown.update(zip((item.persisted.nid for item in seen), written, strict=True))
        return [shown[event.nid] for event in events if event.nid in shown]

    # --- one event -----------------------------------------------------------------------------------------------

    async def event(self, requester: Requester, event_id: EventId) -> bytes:
        """One event of whatever room. Raises `NotFound`, also for what may not be seen."""
        found = await self._events.by_id(event_id)
        if found is None:
            raise NotFound("There is no such event")
        return await self._reading.event(requester, found.event.room_id, event_id)


def _is_wanted(persisted: PersistedEvent, requester: Requester, unwanted: Unwanted) -> bool:
    """Not what those say whom the user ignores, nor their invites. spec: client-server-api/#ignoring-users"""
    event = persisted.event
    invites = event.key == ("m.room.member", requester.user_id) and event.membership == "invite"
    if invites and unwanted.all_invites:
        return False
    ignored = event.sender in unwanted.ignored and event.sender != requester.user_id
    return not ignored or (event.is_state and not invites)
