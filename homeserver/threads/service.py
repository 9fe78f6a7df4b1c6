"""Subscribing to threads, and telling devices what has changed.

An automatic subscription names the event that it is made for: of two devices one may not know that the user has unsubscribed
since, so what was here by then subscribes nobody again. spec: MSC4306, MSC4308
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Entry, Position
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, MatrixError, NotFound
from homeserver.matrix.ids import EventId, RoomId, UserId
from homeserver.matrix.tokens import format_token
from homeserver.rooms.reading import ReadingService
from homeserver.storage.database import Database
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest
from homeserver.threads import store
from homeserver.threads.entries import ThreadSubscriptionEntry
from homeserver.threads.types import Subscription
from homeserver.web.auth import Requester

MAX_THREADS: Final = 10_000
"""Of which a user may have said something."""
MAX_PAGE: Final = 500


class NotInThread(MatrixError):
    """The event that is to have subscribed the user is none of the thread. spec: MSC4306"""

    errcode = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"


class ConflictingUnsubscription(MatrixError):
    """The user has unsubscribed since the event came. spec: MSC4306"""

    status = 409
    errcode = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"


class ThreadRules(Protocol):
    """Fulfilled by push rules."""

    async def use_threads(self, requester: Requester) -> None:
        """From now on the user has the rules that ask for subscriptions. May be called again."""
        ...


class ThreadPage(NamedTuple):
    """Changes, the newest first."""

    members: dict[str, bytes]
    """`subscribed` and `unsubscribed`, JSON, where there are any."""
    before: str | None
    """The token for what is before them; None: that is all."""


class ThreadSubscriptions:
    """Keeps subscriptions. Holds nothing in memory."""

    always_asked = False

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        events: EventCache,
        interning: Interning,
        reading: ReadingService,
        rules: ThreadRules,
    ) -> None:
        self._db = db
        self._log = log
        self._events = events
        self._interning = interning
        self._reading = reading
        self._rules = rules
        self._turns = KeyedLocks()

    async def get(self, requester: Requester, room_id: RoomId, thread: EventId) -> Subscription:
        """Raises `NotFound`: not subscribed, no such thread, or not to be seen."""
        await self._reading.one(requester, room_id, thread)
        found = await self._find(requester, thread)
        if found is None or not found.subscribed:
            raise NotFound("You are not subscribed to this thread")
        return found

    async def subscribe(
        self, requester: Requester, room_id: RoomId, thread: EventId, cause: EventId | None
    ) -> None:
        """`cause`: the event that makes a client subscribe by itself; None: the user said so.

        Raises `NotFound`, `NotInThread`, `ConflictingUnsubscription`, `InvalidParam` for too many.
        """
        root = await self._reading.one(requester, room_id, thread)
        causing = None if cause is None else await self._in_thread(requester, room_id, thread, cause)
        async with self._turns.of(requester.user_nid):
            known = await self._find(requester, thread)
            if causing is not None and known is not None and causing.nid <= known.unsubscribed_at:
                raise ConflictingUnsubscription("You have unsubscribed since this event came")
            if known is not None and known.subscribed and (causing is not None or not known.automatic):
                return
            if known is None:
                await self._require_room_for_one(requester)
            await self._rules.use_threads(requester)
            await self._log.append(
                ThreadSubscriptionEntry(
                    requester.user_nid, root.room_nid, thread, subscribed=True, automatic=causing is not None
                )
            )

    async def unsubscribe(self, requester: Requester, room_id: RoomId, thread: EventId) -> None:
        """Nothing where the user is not subscribed, but that they are not subscribed by what came until now. Raises `NotFound`."""
        root = await self._reading.one(requester, room_id, thread)
        async with self._turns.of(requester.user_nid):
            known = await self._find(requester, thread)
            if known is None or not known.subscribed:
                return
            await self._log.append(
                ThreadSubscriptionEntry(requester.user_nid, root.room_nid, thread, subscribed=False)
            )

    async def page(self, requester: Requester, after: Position, upto: Position, limit: int) -> ThreadPage:
        """Changes in (after, upto]: the newest `limit`, at most `MAX_PAGE`."""
        limit = min(limit, MAX_PAGE)
        async with self._db.read() as tx:
            found = await store.find_changes(tx, requester.user_nid, after, upto, limit + 1)
        more, found = len(found) > limit, found[:limit]
        names = await self._interning.rooms({each.room_nid for each in found})
        kinds: dict[str, dict[str, dict[str, Any]]] = {}
        for each in found:
            if each.room_nid not in names:
                continue
            told: dict[str, Any] = {"bump_stamp": each.position}
            if each.subscribed:
                told["automatic"] = each.automatic
            of_kind = kinds.setdefault("subscribed" if each.subscribed else "unsubscribed", {})
            of_kind.setdefault(names[each.room_nid].room_id, {})[each.thread] = told
        members = {kind: json.dumps(rooms) for kind, rooms in kinds.items()}
        return ThreadPage(members, format_token(found[-1].position - 1) if more else None)

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """See `accounts.ports.ForgetUser`."""
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)

    # --- as a stream: it wakes long polls; `/v3/sync` has no place for it --------------------------------------------

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """See `Stream`."""
        return {ThreadSubscriptionEntry: lambda entry: Recipients((entry.user_nid,))}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        """See `Stream`."""
        del request, rooms
        return NO_NEWS

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _find(self, requester: Requester, thread: EventId) -> Subscription | None:
        async with self._db.read() as tx:
            return await store.find(tx, requester.user_nid, thread)

    async def _in_thread(
        self, requester: Requester, room_id: RoomId, thread: EventId, cause: EventId
    ) -> PersistedEvent:
        try:
            found = await self._reading.one(requester, room_id, cause)
        except NotFound:
            raise NotInThread("automatic: no event of this thread") from None
        if found.facts.thread != thread:
            raise NotInThread("automatic: no event of this thread")
        return found

    async def _require_room_for_one(self, requester: Requester) -> None:
        async with self._db.read() as tx:
            if await store.count(tx, requester.user_nid) >= MAX_THREADS:
                raise InvalidParam(f"More than {MAX_THREADS} threads")
