"""Mails about what is unread: one letter for all rooms, when something has been unread for a while and nobody is there to read it.

A reader of the log says that something may notify a user (`note`); a job looks later what is still unread then (`look`), and sends
the letter. What a letter tells is noted when the mail server has taken it. A process that dies between the two sends the same
letter again, under the same Message-ID.

spec: op:postPusher `kind` (PUSH-16)
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.jobs.service import Jobs
from homeserver.jobs.types import GiveUp, TryLater
from homeserver.log.entries import Position
from homeserver.log.tail import Tail
from homeserver.mail.service import MailService
from homeserver.matrix.ids import UserId
from homeserver.push.mail import store
from homeserver.push.mail.letters import Frame, letter
from homeserver.push.mail.plan import HOUR_MS, MAX_PER_HOUR, Decision, decide, letters_of_hour
from homeserver.push.mail.texts import fit_name
from homeserver.push.mail.types import DIGEST, Digest, DigestOrder, MailSettings, RoomTold
from homeserver.push.mail.unread import New, UnreadForMail
from homeserver.push.mail.words import words_for
from homeserver.push.pushers.interest import parse_key
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.types import EMAIL, MAIL_APP, Pusher
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.tokens import MAX_TOKEN, digest_of, new_token
from homeserver.storage.database import Database

PAGE: Final = "/_matrix/static/client/email/unsubscribe"
TOKEN_PREFIX: Final = "atn_"  # noqa: S105  # what kind, not which
TOKEN_LIFETIME_MS: Final = 60 * 24 * 3_600_000
SOONEST: Final = 1.0
"""Seconds between two looks, at least."""
MAX_PLANNED: Final = 200_000
"""Users of whose addresses it is remembered that a look is planned."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What letters are sent with, the same for all."""

    mail: MailService | None
    """None: nothing can be sent."""
    settings: MailSettings
    base_url: str
    """What links to this server begin with."""
    name: str
    """Whose server it is."""
    colour: str
    link: Callable[[str, str | None], str]
    """See `letters.Frame`."""
    is_bound: Callable[[int, str], Awaitable[bool]]
    """Whether an address is a user's: (user_nid, address)."""
    is_online: Callable[[int], Awaitable[bool]]
    """Whether a user has a client in front of them."""


@dataclass(frozen=True, slots=True)
class _Note:
    """What is to be written when a letter is sent."""

    digest: Digest
    rooms: Sequence[RoomTold]
    over: Sequence[int]
    """room_nids of which everything is read that letters have told."""
    hour_ms: int
    letters: int


class MailDigests:
    """Plans looks and sends letters. Fulfils `pushers.delivery.Mails` and `pushers.interest.Plans`."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        tail: Tail,
        jobs: Jobs,
        clock: Clock,
        entropy: Entropy,
        pushers: PusherService,
        unread: UnreadForMail,
        sending: Sending,
    ) -> None:
        self._db = db
        self._tail = tail
        self._jobs = jobs
        self._clock = clock
        self._entropy = entropy
        self._pushers = pushers
        self._unread = unread
        self._sending = sending
        self._planned: dict[int, dict[str, float]] = {}
        """user_nid -> key -> until when, on the monotonic clock, the look that is planned has not begun: it sees what comes until
        then.
        """
        self._changes = 0
        """How often somebody's pushers have changed. What was planned meanwhile may have been for one that is gone."""
        self.sent = self.failed = self.read = self.online = 0

    @property
    def possible(self) -> bool:
        """Whether pushers of kind `email` may be set."""
        return self._sending.mail is not None

    # --- the reader of the log -------------------------------------------------------------------------------------

    def awaits(self, key: str) -> bool:
        """Whether a look is planned that sees what is new now."""
        user_nid, _ = parse_key(key)
        planned = self._planned.get(user_nid)
        if planned is None or key not in planned:
            return False
        if self._clock.monotonic() < planned[key]:
            return True
        del planned[key]
        return False

    def changed(self, user_nid: int) -> None:
        """A user has set or ended pushers: a look that was planned for one is gone with it."""
        self._changes += 1
        self._planned.pop(user_nid, None)

    async def note(self, key: str, address: str, position: Position, *, news: bool) -> None:
        """See `pushers.delivery.Mails`. One transaction, and none while a look is planned."""
        if not self.possible or (news and self.awaits(key)):
            return
        user_nid, _ = parse_key(key)
        delay, began, changes = self._sending.settings.delay, self._clock.monotonic(), self._changes
        async with self._db.transaction() as tx:
            await store.ensure(tx, user_nid, address, position - 1)
            due = await store.lock_due(tx, user_nid, address) if news else None
            if due is None:
                return
            wait = due.wait
            if wait is None or wait <= 0:
                wait = delay
                run = await store.schedule(tx, user_nid, address, delay)
                await self._jobs.add(tx, DIGEST, DigestOrder(user_nid, address, run), after=delay)
        if changes != self._changes:
            return
        if len(self._planned) >= MAX_PLANNED:
            self._planned.clear()
        self._planned.setdefault(user_nid, {})[key] = began + wait

    # --- the job ---------------------------------------------------------------------------------------------------

    async def look(self, order: DigestOrder) -> None:
        """Send a letter if one is due, or plan the next look. Raises as `MailService.send`."""
        async with self._db.read() as tx:
            digest = await store.find(tx, order.user_nid, order.address)
            told = await store.list_rooms(tx, digest) if digest is not None else []
        if digest is None or digest.run != order.run:
            return
        pusher = await self._pusher(order.user_nid, order.address)
        if pusher is None or self._sending.mail is None:
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                store.finish(batch, digest)
            return
        if not await self._sending.is_bound(order.user_nid, order.address):
            await self._pushers.delete(order.user_nid, MAIL_APP, order.address)
            return
        await self._tail.fresh()
        if digest.letter_upto is None and await self._sending.is_online(order.user_nid):
            self.online += 1
            await self._again(digest, digest.seen_upto, self._sending.settings.delay)
            return
        await self._look(digest, pusher, {each.room_nid: each for each in told})

    async def _look(self, digest: Digest, pusher: Pusher, told: Mapping[int, RoomTold]) -> None:
        begun = digest.letter_upto is not None
        upto = self._tail.position if digest.letter_upto is None else digest.letter_upto
        new = await self._unread.of(digest.user_nid, digest.since, told, upto)
        settings, now_ms = self._sending.settings, self._clock.now_ms()
        kept = {nid: each for nid, each in told.items() if new.still_told(each)}
        if not new.events and begun:  # all that the letter would tell is read; there may be newer messages
            await self._again(digest, digest.seen_upto, settings.delay)
            return
        if not new.events:
            self.read += 1
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                store.delete_rooms(batch, digest, list(told.keys() - kept.keys()))
                store.finish(batch, digest)
            return
        decision = decide(new.reasons(), kept, digest.seen_upto, now_ms, settings, begun=begun)
        hour_ms, letters = letters_of_hour(digest.hour_ms, digest.letters, now_ms)
        if not begun and decision.send and letters >= MAX_PER_HOUR:
            decision = Decision(False, hour_ms + HOUR_MS - now_ms, ())
        if not decision.send:
            await self._again(digest, upto, max(SOONEST, decision.wait_ms / 1000))
            return
        note = _Note(digest, decision.rooms, list(told.keys() - kept.keys()), hour_ms, letters + 1)
        await self._send(note, pusher, new, upto)

    async def _send(self, note: _Note, pusher: Pusher, new: New, upto: Position) -> None:
        token = new_token(self._entropy, TOKEN_PREFIX)
        async with self._db.transaction() as tx:
            expires_ms = self._clock.now_ms() + TOKEN_LIFETIME_MS
            await store.begin_letter(tx, note.digest, upto, digest_of(token), expires_ms)
        contents = await self._unread.contents(new, content=self._sending.settings.content)
        assert self._sending.mail is not None
        try:
            await self._sending.mail.send(
                letter(contents, self._frame(pusher, new.badge.user_id, token, upto))
            )
        except TryLater:
            self.failed += 1
            raise
        except GiveUp:  # it is not tried more often than if it had been taken
            self.failed += 1
            await self._note(note)
            raise
        self.sent += 1
        await self._note(note)
        if note.digest.letter_upto is not None:  # this look was for what came after it
            await self._again(note.digest, upto, SOONEST)

    async def _note(self, note: _Note) -> None:
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            store.delete_rooms(batch, note.digest, note.over)
            store.note_letter(batch, note.digest, note.rooms, note.hour_ms, note.letters)
            store.finish(batch, note.digest)

    async def _again(self, digest: Digest, seen_upto: Position, after: float) -> None:
        """The next look, unless another is planned by now."""
        async with self._db.transaction() as tx:
            if await store.reschedule(tx, digest, seen_upto, after):
                order = DigestOrder(digest.user_nid, digest.address, digest.run + 1)
                await self._jobs.add(tx, DIGEST, order, after=after)

    async def _pusher(self, user_nid: int, address: str) -> Pusher | None:
        for each in await self._pushers.list_of(user_nid):
            if (each.app_id, each.kind, each.pushkey) == (MAIL_APP, EMAIL, address) and each.enabled:
                return each
        return None

    def _frame(self, pusher: Pusher, user_id: UserId, token: str, upto: Position) -> Frame:
        sending = self._sending
        which = f"{user_id} {pusher.pushkey} {upto} {pusher.set_ms}"
        return Frame(
            to=pusher.pushkey,
            user_id=user_id,
            server=sending.name,
            name=_brand(pusher) or sending.name,
            colour=sending.colour,
            words=words_for(pusher.details.lang),
            unsubscribe=f"{sending.base_url}{PAGE}?token={token}",
            message_id=f"unread.{hashlib.sha256(which.encode()).hexdigest()[:40]}",
            link=sending.link,
        )

    # --- unsubscribing ---------------------------------------------------------------------------------------------

    async def subscription(self, token: str) -> Pusher | None:
        """What the link in a letter ends; None if it is unknown, expired, or ended already."""
        if len(token) > MAX_TOKEN:
            return None
        async with self._db.read() as tx:
            found = await store.find_by_token(tx, digest_of(token), self._clock.now_ms())
        if found is None:
            return None
        own = await self._pushers.list_of(found.user_nid)
        return next((each for each in own if (each.app_id, each.pushkey) == (MAIL_APP, found.address)), None)

    async def unsubscribe(self, token: str) -> Pusher | None:
        """End it. Returns as `subscription`."""
        pusher = await self.subscription(token)
        if pusher is not None:
            await self._pushers.delete(pusher.user_nid, MAIL_APP, pusher.pushkey)
        return pusher

    async def clean(self) -> None:
        """Forget links that have expired."""
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, self._clock.now_ms())


def _brand(pusher: Pusher) -> str | None:
    """What the client that set a pusher calls itself, as Synapse's `data.brand` says it."""
    brand = pusher.details.data.get("brand")
    return fit_name(brand) if isinstance(brand, str) else None
