"""Taking reports, and showing them to administrators.

spec: client-server-api/#reporting-content (MOD-01, MOD-02)
"""

from __future__ import annotations

from typing import Final

from homeserver.graph.interning import Interning
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import EventId, RoomId, UserId
from homeserver.reports import store
from homeserver.reports.letters import ReportLetters
from homeserver.reports.types import NewReport, Report, ReportKind, Wanted
from homeserver.rooms.reading import ReadingService
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_REASON: Final = 10_000
"""Characters of a reason."""
MAX_KEPT: Final = 1_000
"""Reports of one person that wait for an administrator."""


class ReportService:
    """Keeps reports. Holds nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        reading: ReadingService,
        rooms: Rooms,
        interning: Interning,
        clock: Clock,
        letters: ReportLetters,
    ) -> None:
        self._letters = letters
        self._db = db
        self._reading = reading
        self._rooms = rooms
        self._interning = interning
        self._clock = clock

    async def report_event(
        self, requester: Requester, room_id: RoomId, event_id: EventId, reason: str | None
    ) -> None:
        """Keep the event as the reporter can read it. Raises `NotFound` for what they cannot, or while not joined."""
        room = await self._rooms.by_id(room_id)
        if room is None or room.membership(requester.user_id) != JOIN:
            raise NotFound("The event was not found or you are not joined to the room")
        event = await self._reading.event(requester, room_id, event_id)
        sender = json.loads(event).get("sender")
        await self._keep(requester, NewReport(ReportKind.EVENT, reason, room_id, event_id, sender, event))

    async def report_room(self, requester: Requester, room_id: RoomId, reason: str | None) -> None:
        """A room that nobody here knows is passed over: the answer does not tell whether there is one."""
        _check(reason)
        if await self._rooms.by_id(room_id) is not None:
            await self._keep(requester, NewReport(ReportKind.ROOM, reason, room_id))

    async def report_user(self, requester: Requester, user_id: UserId, reason: str | None) -> None:
        """A user that nobody here knows is passed over, likewise."""
        _check(reason)
        if user_id in await self._interning.find_user_nids([user_id]):
            await self._keep(requester, NewReport(ReportKind.USER, reason, user_id=user_id))

    async def _keep(self, requester: Requester, new: NewReport) -> None:
        _check(new.reason)
        async with self._db.transaction() as tx:
            if await store.count_of(tx, requester.user_nid, MAX_KEPT) >= MAX_KEPT:
                raise Forbidden(f"{MAX_KEPT} of your reports wait to be looked at: no more are taken")
            now_ms = self._clock.now_ms()
            await store.insert(tx, requester.user_nid, new, now_ms)
            async with tx.pipeline() as batch:
                self._letters.order(batch, now_ms)

    # --- for administrators ------------------------------------------------------------------------------------------

    async def page(
        self, wanted: Wanted, start: int, limit: int, *, newest_first: bool
    ) -> tuple[list[Report], int]:
        """At most `limit` reports from the one with the index `start` on, and how many there are in all."""
        async with self._db.snapshot() as tx:
            found = await store.find_page(tx, wanted, start, limit, newest_first=newest_first)
            return found, await store.count(tx, wanted)

    async def find(self, report_nid: int, kind: ReportKind | None = None) -> Report:
        """One report. Raises `NotFound`."""
        async with self._db.read() as tx:
            found = await store.find(tx, report_nid, kind)
        if found is None:
            raise NotFound("There is no such report")
        return found

    async def delete(self, report_nid: int, kind: ReportKind | None = None) -> None:
        """It was dealt with. Raises `NotFound`."""
        async with self._db.transaction() as tx:
            if not await store.delete(tx, report_nid, kind):
                raise NotFound("There is no such report")


def _check(reason: str | None) -> None:
    if reason is not None and len(reason) > MAX_REASON:
        raise InvalidParam(f"reason: more than {MAX_REASON} characters")
