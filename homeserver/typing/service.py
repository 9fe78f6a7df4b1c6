"""Who is typing where.

spec: client-server-api/#typing-notifications
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Entry, Position
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from homeserver.runtime.clock import Clock
from homeserver.sync.ephemeral import EphemeralSource
from homeserver.sync.types import JoinedRooms, Recipients, SyncRequest
from homeserver.typing.entries import TypingEntry
from homeserver.web.auth import Requester

DEFAULT_MS, MAX_MS = 30_000, 120_000
TYPING = "m.typing"


class Typing(EphemeralSource):
    """One per process: a projection of the log, and the source of `m.typing` for `/sync`."""

    def __init__(self) -> None:
        self._rooms: dict[int, dict[int, str]] = {}
        self._changed: dict[int, Position] = {}

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {TypingEntry: self._apply}

    def reset(self) -> None:
        self._rooms.clear()
        self._changed.clear()

    def _apply(self, position: Position, entry: TypingEntry) -> None:
        room = self._rooms.setdefault(entry.room_nid, {})
        if entry.typing:
            room[entry.user_nid] = entry.user_id
        else:
            room.pop(entry.user_nid, None)
        self._changed[entry.room_nid] = position

    def is_typing(self, room_nid: int, user_nid: int) -> bool:
        return user_nid in self._rooms.get(room_nid, {})

    @override
    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {TypingEntry: lambda entry: Recipients((), entry.room_nid)}

    @override
    async def events(self, request: SyncRequest, rooms: JoinedRooms) -> dict[int, dict[str, Any]]:
        """room_nid -> m.typing event with everybody who types there."""
        if not request.filter.room.ephemeral.matches_parts(TYPING, None):
            return {}
        since = request.since
        if since is None:
            wanted = {room for room, users in self._rooms.items() if users and room in rooms.joined_nids}
        elif request.recent is not None:
            wanted = {e.room_nid for _, e in request.recent.of(TypingEntry)} & rooms.joined_nids
        else:
            wanted = {room for room, at in self._changed.items() if at > since and room in rooms.joined_nids}
        return {room: self._event(room, request.ignored) for room in wanted}

    def _event(self, room_nid: int, ignored: frozenset[str]) -> dict[str, Any]:
        users = [user for user in self._rooms.get(room_nid, {}).values() if user not in ignored]
        return {"type": TYPING, "content": {"user_ids": users}}


class TypingService:
    """Takes what clients say, and ends what they forget to end."""

    def __init__(self, log: LogWriter, rooms: Rooms, typing: Typing, clock: Clock) -> None:
        self._log = log
        self._rooms = rooms
        self._typing = typing
        self._clock = clock
        self._deadlines: list[tuple[float, int, int, str]] = []
        self._until: dict[tuple[int, int], float] = {}

    async def set(self, requester: Requester, room_id: RoomId, *, typing: bool, timeout_ms: int) -> None:
        """Say that the user types, for at most `timeout_ms`, or has ceased to. Raises `Forbidden`."""
        room = await self._rooms.known(room_id)
        if room.membership(requester.user_id) != JOIN:
            raise Forbidden("You are not in this room")
        key = (room.name.nid, requester.user_nid)
        if typing:
            until = self._clock.monotonic() + min(max(timeout_ms, 0), MAX_MS) / 1000
            self._until[key] = until
            heapq.heappush(self._deadlines, (until, *key, requester.user_id))
        else:
            self._until.pop(key, None)
        if self._typing.is_typing(*key) != typing:
            await self._log.append(TypingEntry(*key, requester.user_id, typing))

    async def run(self) -> None:
        """End typing whose time is over, until cancelled."""
        while True:
            await self._clock.sleep(1.0)
            now = self._clock.monotonic()
            ended: list[TypingEntry] = []
            while self._deadlines and self._deadlines[0][0] <= now:
                until, room_nid, user_nid, user_id = heapq.heappop(self._deadlines)
                if self._until.get((room_nid, user_nid)) == until:
                    del self._until[room_nid, user_nid]
                    ended.append(TypingEntry(room_nid, user_nid, user_id, False))
            if ended:
                await self._log.append(*ended)
