"""Looking into a room without `/sync`: what it is now, and what happens next; also for who may only peek.

spec: client-server-api/#room-previews (SYNC-24, PEEK-01), op:roomInitialSync, op:peekEvents
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.refs import MEMBERSHIP_NAMES
from homeserver.log.entries import Position
from homeserver.log.tail import Tail
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId
from homeserver.matrix.tokens import format_token
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.history import HistoryService
from homeserver.rooms.reading import ReadingService
from homeserver.runtime.clock import Clock
from homeserver.sync.notifier import Notifier
from homeserver.web.auth import Requester

MAX_EVENTS = 100


class RoomData(Protocol):
    """Fulfilled by account data."""

    async def of_room(self, user_nid: int, room_nid: int) -> bytes:
        """JSON array of a user's account data of a room."""
        ...


class News(NamedTuple):
    """What has happened in a room since a token; events are JSON, oldest first."""

    start: str
    end: str
    chunk: list[bytes]


class PeekingService:
    """Answers `initialSync` and `/events` of one room. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        tail: Tail,
        access: RoomAccess,
        reading: ReadingService,
        history: HistoryService,
        notifier: Notifier,
        data: RoomData,
        clock: Clock,
    ) -> None:
        self._tail = tail
        self._access = access
        self._reading = reading
        self._history = history
        self._notifier = notifier
        self._data = data
        self._clock = clock

    async def room(self, requester: Requester, room_id: RoomId, limit: int) -> bytes:
        """State, the newest events and the user's account data of a room, as JSON. Raises `Forbidden`.

        Who has left is given the room as they left it.
        """
        room = (await self._access.of(requester, room_id)).room
        upto = self._tail.position
        page = await self._history.messages(
            requester,
            room_id,
            start=upto,
            stop=None,
            backwards=True,
            limit=min(limit, MAX_EVENTS),
            wanted=RoomEventFilter(),
        )
        start = b"" if page.end is None else b'"start":%b,' % json.dumps(page.end)
        parts = [
            b'"room_id":' + json.dumps(room_id),
            b'"state":' + await self._reading.state(requester, room_id),
            b'"messages":{%b"end":%b,"chunk":[%b]}'
            % (start, json.dumps(page.start), b",".join(reversed(page.chunk))),
            b'"visibility":"%b"' % (b"public" if await self._reading.is_published(room) else b"private"),
            b'"account_data":' + await self._data.of_room(requester.user_nid, room.name.nid),
        ]
        membership = room.membership(requester.user_id)
        if membership:
            parts.append(b'"membership":' + json.dumps(MEMBERSHIP_NAMES[membership]))
        return b"{%b}" % b",".join(parts)

    async def events(
        self, requester: Requester, room_id: RoomId, since: Position | None, timeout_ms: int
    ) -> News:
        """Events after `since` (None: after now), once there are any or the time is over. Raises `Forbidden`."""
        since = self._tail.position if since is None else since
        deadline = self._clock.monotonic() + max(timeout_ms, 0) / 1000
        while True:
            room = (await self._access.of(requester, room_id)).room
            upto = self._tail.position
            page = await self._history.messages(
                requester,
                room_id,
                start=since,
                stop=upto,
                backwards=False,
                limit=MAX_EVENTS,
                wanted=RoomEventFilter(),
            )
            end = format_token(max(upto, since)) if page.end is None else page.end
            if page.chunk:
                return News(format_token(since), end, page.chunk)
            left = deadline - self._clock.monotonic()
            if room.last_event <= upto and not (
                left > 0 and await self._notifier.watch(requester, room.name.nid, left)
            ):
                return News(format_token(since), end, [])
