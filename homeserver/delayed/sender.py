"""Sending delayed events when they are due: by whichever process claims one first, once.

Each process has a timer for the next one that it knows of, and looks every `POLL` seconds for what others have scheduled, so an
event is sent on time whichever process has died. Who claims an event has `LEASE_MS` for it; then another process tries again.
The event is written under its delay id as transaction id, so what was written before a process died is not written twice.

spec: MSC4140
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import psycopg
import structlog

from homeserver.delayed import store
from homeserver.delayed.types import Delayed, Outcome
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import LATER
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix import json
from homeserver.matrix.errors import MatrixError, NotFound, ServerFault, Unknown
from homeserver.matrix.ids import DeviceId, EventId
from homeserver.rooms.sending import REDACTION, SendingService
from homeserver.runtime.causes import Causes
from homeserver.runtime.clock import Clock
from homeserver.sessions.acting import ActingUsers
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.web.rate_limit import RateLimiter

_log = structlog.get_logger("atrium.delayed")

POLL: Final = 5.0
"""Seconds between looks for what other processes have scheduled, or left behind."""
LEASE_MS: Final = 30_000
AT_ONCE: Final = 50
"""Events that one process sends at the same time."""
MAX_ATTEMPTS: Final = 10
"""After which an event that cannot be sent for reasons of the server's is given up: minutes later."""
_LONGEST_PAUSE_MS: Final = 60_000
UNSTABLE_ERRCODE: Final = "org.matrix.msc4140.errcode"


class Overwritten(Unknown):
    """Somebody else has set the state that a delayed event would set. spec: MSC4140, `M_CANCELLED_BY_STATE_UPDATE`"""

    def __init__(self) -> None:
        super().__init__("Another user has changed this state since")
        self.fields[UNSTABLE_ERRCODE] = "M_CANCELLED_BY_STATE_UPDATE"


class DelayedSender:
    """Owns the timer of this process. What `send_due` finds is sent by the rights its sender has by then."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        acting: ActingUsers,
        sending: SendingService,
        rooms: Rooms,
        events: EventCache,
        limiter: RateLimiter,
        clock: Clock,
    ) -> None:
        self._db = db
        self._acting = acting
        self._sending = sending
        self._rooms = rooms
        self._events = events
        self._limiter = limiter
        self._clock = clock
        self._causes = Causes(_log, "delayed_event_not_sent")
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None
        self.wake = asyncio.Event()
        """Set when an event is due."""

    def due_at(self, due_ms: int) -> None:
        """One is due then (ms since 1970): this process wakes by itself."""
        if self._timer_ms is not None and self._timer_ms <= due_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = due_ms
        seconds = max(due_ms - self._clock.now_ms() + 1, 1) / 1000
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def stop(self) -> None:
        """The server stops."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_ms = None

    def _ring(self) -> None:
        self._timer = self._timer_ms = None
        self.wake.set()

    async def send_due(self) -> None:
        """Send all that is due and unclaimed, and set the timer for what comes next."""
        while True:
            now_ms = self._clock.now_ms()
            async with self._db.transaction() as tx:
                claimed = await store.claim_due(tx, now_ms, now_ms + LEASE_MS, AT_ONCE)
            await asyncio.gather(*map(self._send_claimed, claimed))
            if len(claimed) < AT_ONCE:
                break
        async with self._db.read() as tx:
            next_ms = await store.find_next_due(tx)
        if next_ms is not None:
            self.due_at(next_ms)

    async def send_now(self, delay_id: str) -> None:
        """Send one before its time. Raises `NotFound` if it is not scheduled; what the room says, and then it stays scheduled."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction() as tx:
            delayed = await store.claim(tx, delay_id, now_ms, now_ms + LEASE_MS)
        if delayed is None:
            raise not_scheduled()
        try:
            event_id = await self._deliver(delayed)
        except Overwritten as error:
            await self.finalise(delayed, Outcome(by_action=True, error=json_of(error)))
            raise not_scheduled() from error
        except MatrixError:
            async with self._db.transaction() as tx:
                await store.release(tx, delayed.delayed_nid, now_ms)
            self.due_at(delayed.due_ms)
            raise
        await self.finalise(delayed, Outcome(by_action=True, event_id=event_id))

    async def is_overwritten(self, delayed: Delayed) -> bool:
        """Whether somebody else has set the state that this would set, since it was scheduled.

        One's own event counts for nothing: who joins a call schedules their leave first.
        """
        if delayed.state_key is None:
            return False
        room = await self._rooms.by_id(delayed.room_id)
        current = room.state.get((delayed.type, delayed.state_key)) if room is not None else None
        if current is None or current <= delayed.since_position:
            return False
        event = await self._events.one(current)
        return event is not None and event.sender_nid != delayed.user_nid

    async def finalise(self, delayed: Delayed, outcome: Outcome) -> None:
        """Keep what became of it, for its owner."""
        async with self._db.transaction() as tx:
            await store.finalise(tx, delayed.delayed_nid, outcome, self._clock.now_ms())

    # --- inside --------------------------------------------------------------------------------------------------

    async def _send_claimed(self, delayed: Delayed) -> None:
        """Raises nothing but being cancelled: what the database says then is said to others, too."""
        try:
            async with asyncio.timeout(LEASE_MS / 1000 * 0.8):
                outcome = await self._outcome(delayed)
            if outcome is not None:
                await self.finalise(delayed, outcome)
        except (psycopg.Error, StorageError, TimeoutError) as error:
            self._causes.tell(error)  # the claim runs out
        else:
            self._causes.over()

    async def _outcome(self, delayed: Delayed) -> Outcome | None:
        """None: it is tried again later."""
        try:
            return Outcome(by_action=False, event_id=await self._deliver(delayed))
        except MatrixError as error:
            refusal = error
        except (psycopg.OperationalError, StorageError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  # one that cannot be sent must not keep others from being sent
            self._causes.tell(error)
            refusal = ServerFault("Internal server error")
        if refusal.http_status < 500 or delayed.attempts >= MAX_ATTEMPTS:
            return Outcome(by_action=False, error=json_of(refusal))
        again_ms = self._clock.now_ms() + min(1000 * 2**delayed.attempts, _LONGEST_PAUSE_MS)
        async with self._db.transaction() as tx:
            await store.release(tx, delayed.delayed_nid, again_ms)
        return None

    async def _deliver(self, delayed: Delayed) -> EventId:
        requester = await self._acting.requester(
            delayed.user_nid, delayed.appservice_id, when_suspended=delayed.type == REDACTION
        )
        if requester.rate_limited:
            self._limiter.hit("message", requester.user_id, guest=requester.is_guest)
        requester = msgspec.structs.replace(requester, device_id=DeviceId(LATER))
        if await self.is_overwritten(delayed):
            raise Overwritten
        content: dict[str, Any] = json.loads(delayed.content)
        room_id, txn_id, ts = delayed.room_id, delayed.delay_id, delayed.origin_server_ts
        if delayed.state_key is None:
            return await self._sending.send(
                requester, room_id, delayed.type, txn_id, content, ts=ts, sticky_ms=delayed.sticky_ms
            )
        key = (delayed.type, delayed.state_key)
        return await self._sending.put_state(requester, room_id, key, content, ts=ts, txn_id=txn_id)


def not_scheduled() -> NotFound:
    """What is unknown, sent, cancelled or being sent looks the same to whoever has nothing but an id."""
    return NotFound("There is no such delayed event")


def json_of(error: MatrixError) -> bytes:
    """As a standard error response."""
    return json.dumps(error.to_json())
