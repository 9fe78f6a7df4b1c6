"""Scheduling events, and restarting, cancelling and listing what is scheduled.

spec: MSC4140 (CHECKLIST 26)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from homeserver.delayed import store
from homeserver.delayed.sender import UNSTABLE_ERRCODE, DelayedSender, Overwritten, json_of, not_scheduled
from homeserver.delayed.types import Listed, NewDelayed, Outcome, Page, Wanted
from homeserver.events.validation import check_client_event
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.tail import Tail
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, LimitExceeded, NotFound, TooLarge, Unknown
from homeserver.matrix.ids import UserId
from homeserver.rooms.ports import LaterEvent
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_LISTED: Final = 10_000
"""Scheduled events in one answer: none may have more (`limits.delayed_events`), and their bytes are bounded, too."""
PAGE: Final = 20
"""Events of a page of one's list."""
MAX_CONTENT: Final = 65_536
"""Bytes; no event is larger. spec: client-server-api/#size-limits"""
KEPT: Final = 100
"""Events of a user that are remembered when they were sent, cancelled or refused: the newest."""
KEPT_BYTES: Final = 1 << 20
"""Their content, in all."""
KEPT_MS: Final = 7 * 86_400_000
"""How long they are remembered."""
FORGET_EVERY: Final = 3_600.0
_ID_BYTES: Final = 24
_FAR: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of what a user may have scheduled."""

    delay_ms: int
    events: int
    content_bytes: int


class DelayedEvents:
    """Keeps delayed events. Holds nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        sender: DelayedSender,
        rooms: Rooms,
        tail: Tail,
        clock: Clock,
        entropy: Entropy,
        bounds: Bounds,
    ) -> None:
        self._db = db
        self._sender = sender
        self._rooms = rooms
        self._tail = tail
        self._clock = clock
        self._entropy = entropy
        self._bounds = bounds

    async def schedule(self, requester: Requester, later: LaterEvent) -> str:
        """See `rooms.ports.Delays.schedule`. Whether they may send it is looked at when it is sent."""
        self._check_delay(later.delay_ms)
        room = await self._rooms.known(later.room_id)
        check_client_event(later.type, later.state_key, later.content, room.name.version)
        content = json.dumps(later.content)
        if len(content) > MAX_CONTENT:
            raise TooLarge("The event is too large")
        new = NewDelayed(
            self._entropy.token(_ID_BYTES),
            requester.user_nid,
            requester.appservice_id,
            _hash_of(requester, later),
            later.room_id,
            later.type,
            later.state_key,
            content,
            later.ts if requester.appservice_id is not None else None,
            later.delay_ms,
            self._clock.now_ms(),
            self._tail.position,
            later.sticky_ms,
        )
        delay_id = await self._keep(new)
        self._sender.due_at(new.since_ms + new.delay_ms)
        return delay_id

    def _check_delay(self, delay_ms: int) -> None:
        if delay_ms <= 0:
            raise InvalidParam("delay: milliseconds, more than none")
        if delay_ms > self._bounds.delay_ms:
            error = Unknown("The delay is longer than this server allows")
            error.fields[UNSTABLE_ERRCODE] = "M_MAX_DELAY_EXCEEDED"
            error.fields["org.matrix.msc4140.max_delay"] = self._bounds.delay_ms
            raise error

    async def _keep(self, new: NewDelayed) -> str:
        """The id of the event, or of the one that the same transaction has scheduled before."""
        async with self._db.transaction() as tx:
            async with tx.pipeline() as batch:
                store.lock_user(batch, new.user_nid)
                repeated = store.find_repeated(batch, new.user_nid, new.txn_hash)
                scheduled = store.find_scheduled(batch, new.user_nid)
            if repeated.result is not None:
                return repeated.result[0]
            events, content_bytes, next_due_ms = scheduled.result[0]
            bounds = self._bounds
            if events >= bounds.events or content_bytes + len(new.content) > bounds.content_bytes:
                raise _too_many(max((next_due_ms or 0) - new.since_ms, 1000))
            async with tx.pipeline(commit=True) as batch:
                store.insert(batch, new)
                store.delete_surplus(batch, new.user_nid, KEPT, KEPT_BYTES)
        return new.delay_id

    async def restart(self, delay_id: str) -> None:
        """The delay begins anew. Raises `NotFound` for what is not scheduled, or is no more."""
        async with self._db.transaction() as tx:
            delayed = await store.restart(tx, delay_id, self._clock.now_ms())
        if delayed is None:
            raise not_scheduled()
        if await self._sender.is_overwritten(delayed):
            await self._sender.finalise(delayed, Outcome(by_action=False, error=json_of(Overwritten())))
            raise not_scheduled()

    async def cancel(self, delay_id: str) -> None:
        """It is never sent. Raises `NotFound` for what is not scheduled, or is no more."""
        async with self._db.transaction() as tx:
            if not await store.cancel(tx, delay_id, self._clock.now_ms()):
                raise not_scheduled()

    async def is_scheduled(self, delay_id: str) -> bool:
        """Whether it is still to be sent."""
        async with self._db.read() as tx:
            return await store.is_scheduled(tx, delay_id)

    async def send(self, delay_id: str) -> None:
        """It is sent now. Raises as `DelayedSender.send_now`."""
        await self._sender.send_now(delay_id)

    async def page(
        self, requester: Requester, wanted: Wanted, start: str | None, *, backwards: bool
    ) -> tuple[list[Listed], str | None]:
        """`PAGE` of one's own, in the order of their due times, and where the next page begins, if there is one.

        Raises `InvalidParam` for a token that is none of ours.
        """
        async with self._db.read() as tx:
            found = await store.find_page(
                tx, requester.user_nid, wanted, _page_at(start, backwards=backwards), PAGE + 1
            )
        following = f"{found[PAGE - 1].due_ms}_{found[PAGE - 1].delayed_nid}" if len(found) > PAGE else None
        return found[:PAGE], following

    async def scheduled(self, requester: Requester) -> list[Listed]:
        """All of one's own that are scheduled, in the order of their due times; as many as one may have."""
        async with self._db.read() as tx:
            page = _page_at(None, backwards=False)
            return await store.find_page(tx, requester.user_nid, Wanted("scheduled"), page, MAX_LISTED)

    async def one(self, requester: Requester, delay_id: str) -> Listed:
        """One of one's own. Raises `NotFound`."""
        found, _ = await self.page(requester, Wanted(delay_ids=[delay_id]), None, backwards=False)
        if not found:
            raise NotFound("There is no such delayed event of yours")
        return found[0]

    async def forget_finalised(self) -> None:
        """What was finalised days ago."""
        async with self._db.transaction() as tx:
            await store.delete_finalised(tx, self._clock.now_ms() - KEPT_MS)

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """See `accounts.ports.ForgetUser`. An ended account sends nothing any more."""
        del user_id
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)


def _hash_of(requester: Requester, later: LaterEvent) -> bytes | None:
    """Transaction ids are scoped to device and endpoint (API-10)."""
    if later.txn_id is None:
        return None
    scope = [requester.device_id or "", later.room_id, later.type, later.txn_id]
    return hashlib.sha256(json.dumps(scope)).digest()


def _too_many(retry_after_ms: int) -> LimitExceeded:
    error = LimitExceeded(retry_after_ms, "You have scheduled as much as this server allows")
    error.fields[UNSTABLE_ERRCODE] = "M_MAX_DELAYED_EVENTS_EXCEEDED"
    return error


def _page_at(token: str | None, *, backwards: bool) -> Page:
    if token is None:
        return Page(_FAR, _FAR, backwards) if backwards else Page(-1, -1, backwards)
    due, _, nid = token.partition("_")
    if not (due.isascii() and nid.isascii() and due.isdigit() and nid.isdigit() and len(token) < 40):
        raise InvalidParam("from: no token of this list")
    return Page(min(int(due), _FAR), min(int(nid), _FAR), backwards)
