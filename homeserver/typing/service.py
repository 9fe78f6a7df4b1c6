"""Who is typing where.

Who types is what the log says: memory changes when an entry is written, never before, so that what could not be written is
done when it can. The process that a client talks to knows when its typing ends; should that process be gone, another ends it.

spec: client-server-api/#typing-notifications
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import structlog
from typing_extensions import override

from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Member, Room
from homeserver.log.entries import Entry, Position
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, UserId
from homeserver.runtime.clock import Clock
from homeserver.sync.ephemeral import EphemeralSource
from homeserver.sync.types import JoinedRooms, Recipients, SyncRequest
from homeserver.typing.entries import TypingEntry
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.typing")

DEFAULT_MS, MAX_MS = 30_000, 120_000
TYPING = "m.typing"
REPEAT_SECONDS = 60.0
"""Whoever goes on typing is told of anew after this time, or other processes would think their own process gone."""
LOST_SECONDS = MAX_MS / 1000 + 10
"""After this time without a word any process ends it."""
ELSEWHERE_SECONDS = 60.0
"""How long a user of another server types whose server does not say so again."""
MAX_TYPISTS = 100
"""Users of other servers that may type in a room at a time: nobody reads more names."""
TOGETHER = 500
"""How many are ended at a time."""

Key = tuple[int, int]
"""(room_nid, user_nid)."""


class Typist(NamedTuple):
    """Somebody who types."""

    user_id: str
    since: float
    """Monotonic seconds: when this was heard last."""


class Typing(EphemeralSource):
    """A projection: who is typing where, and since when; the source of `m.typing` for `/sync`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rooms: dict[int, dict[int, Typist]] = {}
        self._changed: dict[int, Position] = {}

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {TypingEntry: self._apply}

    def reset(self) -> None:
        self._rooms.clear()
        self._changed.clear()

    def _apply(self, position: Position, entry: TypingEntry) -> None:
        room = self._rooms.setdefault(entry.room_nid, {})
        if entry.typing:
            room[entry.user_nid] = Typist(entry.user_id, self._clock.monotonic())
        else:
            room.pop(entry.user_nid, None)
            if not room:
                del self._rooms[entry.room_nid]
        self._changed[entry.room_nid] = position

    def of(self, room_nid: int, user_nid: int) -> Typist | None:
        """None for who does not type there."""
        return self._rooms.get(room_nid, {}).get(user_nid)

    def in_room(self, room_nid: int) -> list[str]:
        """User ids of all who type there."""
        return [typist.user_id for typist in self._rooms.get(room_nid, {}).values()]

    def count(self, room_nid: int) -> int:
        """How many type in a room."""
        return len(self._rooms.get(room_nid, ()))

    def everybody(self) -> Iterator[tuple[Key, Typist]]:
        """All who type. To be used up before anything is awaited."""
        for room_nid, room in self._rooms.items():
            for user_nid, typist in room.items():
                yield (room_nid, user_nid), typist

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
            wanted = {room for room in self._rooms if room in rooms.joined_nids}
        elif request.recent is not None:
            wanted = {e.room_nid for _, e in request.recent.of(TypingEntry)} & rooms.joined_nids
        else:
            wanted = {room for room, at in self._changed.items() if at > since and room in rooms.joined_nids}
        return {room: self._event(room, request.ignored) for room in wanted}

    def _event(self, room_nid: int, ignored: frozenset[str]) -> dict[str, Any]:
        users = [
            each.user_id for each in self._rooms.get(room_nid, {}).values() if each.user_id not in ignored
        ]
        return {"type": TYPING, "content": {"user_ids": users}}


class TypingService:
    """Takes what clients say, and ends what they forget to end."""

    def __init__(self, log: LogWriter, rooms: Rooms, typing: Typing, clock: Clock) -> None:
        self._log = log
        self._rooms = rooms
        self._typing = typing
        self._clock = clock
        self._until: dict[Key, float] = {}
        """When it ends, monotonic seconds, of those who said so here."""

    async def set(self, requester: Requester, room_id: RoomId, *, typing: bool, timeout_ms: int) -> None:
        """Say that the user types, for at most `timeout_ms`, or has ceased to. Raises `Forbidden`."""
        room = await self._rooms.known(room_id)
        if room.membership(requester.user_id) != JOIN:
            raise Forbidden("You are not in this room")
        key = (room.name.nid, requester.user_nid)
        now, told = self._clock.monotonic(), self._typing.of(*key)
        news = told is None or now - told.since > REPEAT_SECONDS if typing else told is not None
        if news:
            await self._log.append(TypingEntry(*key, requester.user_id, typing))
        if typing:
            self._until[key] = now + min(max(timeout_ms, 0), MAX_MS) / 1000
        else:
            self._until.pop(key, None)

    async def hear(self, room: Room, user_id: UserId, member: Member, *, typing: bool) -> None:
        """Another server says that its user, who is in the room, types or has ceased to.

        spec: server-server-api/#typing-notifications
        """
        key = (room.name.nid, member.user_nid)
        now, told = self._clock.monotonic(), self._typing.of(*key)
        news = told is None or now - told.since > REPEAT_SECONDS if typing else told is not None
        if typing and told is None and self._typing.count(room.name.nid) >= MAX_TYPISTS:
            return
        if news:
            await self._log.append(TypingEntry(*key, user_id, typing))
        if typing:
            self._until[key] = now + ELSEWHERE_SECONDS
        else:
            self._until.pop(key, None)

    async def tick(self) -> None:
        """Once. What cannot be written is tried again at the next tick."""
        now = self._clock.monotonic()
        typists = dict(self._typing.everybody())
        self._until = {key: until for key, until in self._until.items() if key in typists}
        over = (
            TypingEntry(*key, typist.user_id, False)
            for key, typist in typists.items()
            if self._until.get(key, typist.since + LOST_SECONDS) <= now
        )
        if ended := list(islice(over, TOGETHER)):
            try:
                await self._log.append(*ended)
            except Exception as error:  # noqa: BLE001  # nobody waits for it
                _log.warning("typing_not_ended", users=len(ended), error=type(error).__name__)
