"""Ending call memberships for clients that are gone: LiveKit knows who is in a call, so the client need not say so again and again.

While a participant is there, their delayed leave is restarted; when they have left, it is sent. Where LiveKit cannot be asked
nothing is done, and the delayed event is sent when its time has come.

spec: MSC4195, MSC4140 ("Delegating delayed events")
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from homeserver.calls import store
from homeserver.calls.livekit import LiveKitServer, WebhookEvent
from homeserver.calls.types import Delegated, Leave
from homeserver.delayed.service import DelayedEvents
from homeserver.matrix.errors import MatrixError, NotFound
from homeserver.matrix.ids import RoomId
from homeserver.runtime.causes import Causes
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.web.auth import Requester
from homeserver.web.outbound import OutboundError

_log = structlog.get_logger("atrium.calls")

POLL: Final = 2.0
"""Seconds between looks for what is to be looked at."""
LOOK_MS: Final = (2_000, 30_000)
"""How often it is looked whether somebody is in a call: at least and at most."""
ENTER_MS: Final = 60_000
"""How long somebody may take to come in."""
GONE_MS: Final = 20_000
"""After which somebody who has lost their connection has left."""
AT_ONCE: Final = 50


class DelegatedLeaves:
    """Restarts and sends delayed leaves, in any process. Holds nothing in memory."""

    def __init__(self, db: Database, server: LiveKitServer, events: DelayedEvents, clock: Clock) -> None:
        self._db = db
        self._server = server
        self._events = events
        self._clock = clock
        self._causes = Causes(_log, "livekit_not_asked")

    async def delegate(self, room: str, identity: str, delegated: Delegated) -> None:
        """Take a leave over. Raises `NotFound` unless it is scheduled."""
        await self._events.restart(delegated.delay_id)
        now_ms = self._clock.now_ms()
        leave = Leave(room, identity, delegated.delay_id, delegated.delay_ms, now_ms + ENTER_MS)
        async with self._db.transaction() as tx:
            await store.insert(tx, leave, now_ms + LOOK_MS[0])

    async def delay_of(self, requester: Requester, room_id: RoomId, delay_id: str) -> int:
        """The delay in ms of an event that the user has scheduled for the room. Raises `NotFound`."""
        found = await self._events.one(requester, delay_id)
        if found.room_id != room_id:
            raise NotFound("There is no such delayed event of yours in this room")
        return found.delay_ms

    async def told(self, event: WebhookEvent) -> None:
        """LiveKit tells of a participant: who has hung up has left at once."""
        if not event.left_intentionally:
            return
        async with self._db.read() as tx:
            leave = await store.find(tx, event.room.name, event.participant.identity)
        if leave is not None:
            await self._send(leave)

    async def look(self) -> None:
        """Look after those whose time has come."""
        while True:
            async with self._db.transaction() as tx:
                claimed = await store.claim_due(tx, self._clock.now_ms(), LOOK_MS, AT_ONCE)
            await asyncio.gather(*map(self._look_at, claimed))
            if len(claimed) < AT_ONCE:
                return

    async def _look_at(self, leave: Leave) -> None:
        try:
            is_in = await self._server.is_in(leave.room, leave.identity)
        except OutboundError as error:
            self._causes.tell(error)
            await self._forget_unless_scheduled(leave)
            return
        self._causes.over()
        now_ms = self._clock.now_ms()
        if is_in:
            await self._restart(leave, now_ms)
        elif now_ms > leave.seen_ms + GONE_MS:
            await self._send(leave)

    async def _restart(self, leave: Leave, now_ms: int) -> None:
        try:
            await self._events.restart(leave.delay_id)
        except NotFound:
            await self._forget(leave)
            return
        async with self._db.transaction() as tx:
            await store.update_seen(tx, leave, now_ms)

    async def _send(self, leave: Leave) -> None:
        try:
            await self._events.send(leave.delay_id)
        except MatrixError as error:
            if not isinstance(error, NotFound):  # it is sent when its time has come, or is not
                _log.warning("delegated_leave_refused", errcode=error.errcode)
        await self._forget(leave)

    async def _forget_unless_scheduled(self, leave: Leave) -> None:
        if not await self._events.is_scheduled(leave.delay_id):
            await self._forget(leave)

    async def _forget(self, leave: Leave) -> None:
        async with self._db.transaction() as tx:
            await store.delete(tx, leave)
