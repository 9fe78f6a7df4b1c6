"""From what is posted to a message in the room of the hook.

A hook's messages are said by a user of its own, made with it (`administration.py`), so they pass rate limits, power levels and the
policy gate like anybody's. What is posted to an encrypted room is refused: the server has no keys.
"""

from __future__ import annotations

import hashlib
from typing import Final

from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.hooks import formats, store
from homeserver.hooks.formats import Posted
from homeserver.hooks.message import content_of
from homeserver.hooks.types import Hook, JoinHook, digest_of
from homeserver.jobs.types import GiveUp, TryLater
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix.errors import Forbidden, MatrixError, NotFound
from homeserver.matrix.ids import EventId
from homeserver.rooms.membership import MembershipService
from homeserver.rooms.sending import SendingService
from homeserver.runtime.clock import Clock
from homeserver.sessions.acting import ActingUsers
from homeserver.storage.database import Database
from homeserver.web.rate_limit import RateLimiter

ENCRYPTION: Final = ("m.room.encryption", "")
_NOTED_EVERY_MS: Final = 60_000


class HookService:
    """Writes what is posted into rooms, and brings the users of hooks there."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        sending: SendingService,
        membership: MembershipService,
        limiter: RateLimiter,
        clock: Clock,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._sending = sending
        self._membership = membership
        self._acting = ActingUsers(db)
        self._limiter = limiter
        self._clock = clock
        self._turns = KeyedLocks()

    async def known(self, secret: str, address: str) -> Hook:
        """The hook that is called, before anything is read of what is posted. `address`: of who calls.

        Raises:
            NotFound: no hook has this secret, or not any more.
            LimitExceeded: too much from this address, or to this hook.
        """
        self._limiter.hit_address("hook_address", address)
        async with self._db.read() as tx:
            hook = await store.find_by_secret(tx, digest_of(secret))
        if hook is None:
            raise NotFound("There is no such webhook")
        self._limiter.hit("hook", hook.hook_id)
        return hook

    async def post(self, hook: Hook, posted: Posted, delivery_id: str | None = None) -> EventId:
        """Say it in the hook's room; the event's id. `delivery_id`: what the sender calls this delivery, the same when it is
        repeated; None: nothing. A delivery that is repeated within a week is said once.

        Raises:
            BadJson: nothing in it says anything.
            Forbidden: the room is encrypted, or the hook's user may not speak there.
        """
        said, rings = formats.read(posted)
        await self._ready(hook)
        requester = await self._acting.requester(hook.user_nid)
        txn_id = None if delivery_id is None else _transaction(delivery_id)
        content = content_of(said, rings=rings)
        event_id = await self._sending.send(requester, hook.room_id, "m.room.message", txn_id, content)
        await self._note_used(hook)
        return event_id

    async def join(self, job: JoinHook) -> None:
        """A job: bring the user of a new hook into its room."""
        async with self._db.read() as tx:
            hook = await store.find(tx, job.hook_id)
        if hook is None:
            return
        try:
            await self._come_in(hook, await self._rooms.known(hook.room_id))
        except MatrixError as refusal:
            kind = TryLater if refusal.http_status >= 500 else GiveUp
            raise kind(f"the hook's user does not come into the room: {refusal.errcode}") from refusal

    async def _ready(self, hook: Hook) -> None:
        """Raises `Forbidden` where nothing can be said in the room."""
        room = await self._rooms.known(hook.room_id)
        refuse_encrypted(room)
        if room.membership(hook.user_id) == JOIN:
            return
        if hook.last_used_ms is not None:
            raise Forbidden("The webhook's user has been removed from the room: make another webhook")
        await self._come_in(hook, room)

    async def _come_in(self, hook: Hook, room: Room) -> None:
        refuse_encrypted(room)
        async with self._turns.of(hook.hook_id):
            if room.membership(hook.user_id) == JOIN:
                return
            user = await self._acting.requester(hook.user_nid)
            if room.membership(hook.user_id) != INVITE:
                maker = await self._acting.requester(hook.made_by_nid)
                try:
                    await self._membership.invite(maker, hook.room_id, hook.user_id, "an incoming webhook")
                except Forbidden:
                    if room.membership(hook.user_id) != JOIN:  # by another process, in between
                        raise
            await self._membership.join(user, hook.room_id)

    async def _note_used(self, hook: Hook) -> None:
        now_ms = self._clock.now_ms()
        before_ms = now_ms - _NOTED_EVERY_MS
        if hook.last_used_ms is None or hook.last_used_ms < before_ms:
            async with self._db.transaction() as tx:
                await store.note_used(tx, hook.hook_id, now_ms, before_ms)


def refuse_encrypted(room: Room) -> None:
    """Raises `Forbidden`: the server cannot encrypt, and in such a room nothing shall be said in clear."""
    if ENCRYPTION in room.state:
        raise Forbidden(
            "The room is encrypted: an incoming webhook cannot speak there. Use a room without encryption"
        )


def _transaction(delivery_id: str) -> str:
    """A transaction id of bounded length."""
    return "hook." + hashlib.sha256(delivery_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
