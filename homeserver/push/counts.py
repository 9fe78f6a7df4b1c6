"""Counts of what is unread, for the rooms in an answer of `/sync`.

Nobody counts while an event is sent. A reader's unread count is kept in memory from answer to answer and moved on by the room's
events since; whoever is not in memory is counted in the database, all rooms of the answer together. Nothing is stored
beside events and receipts, so nothing can be lost, and every process finds the same.

spec: client-server-api/#receiving-notifications (SYNC-11, SYNC-12, PUSH-14)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from homeserver.events.push_rules import EVENT_WORK, EvaluationContext
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Tail
from homeserver.matrix.glob import WorkBudget
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.around import around_of
from homeserver.push.evaluator import Evaluator
from homeserver.push.evaluators import Evaluators
from homeserver.push.recent import RecentEvents
from homeserver.push.unread_count import Delta, Reading, UnreadCount, delta_of
from homeserver.receipts.entries import UNTHREADED, ReceiptEntry
from homeserver.storage.database import Database
from homeserver.sync.types import SyncRequest

MAX_TALLIES: Final = 100_000
"""Over all rooms and users; some 500 bytes each."""
MAX_DELTAS: Final = 256
MAX_LOOKED_INTO: Final = 2_000
"""Events that one answer looks into for keywords and the like: the newest."""
ANSWER_WORK: Final = 16 * EVENT_WORK
"""What looking into them may cost. What is left then counts as no rule of one's own would have it."""
ROOMS_AT_ONCE: Final = 100
"""After so many rooms, others have a turn."""

Section = dict[str, bytes]


class UnreadCounts:
    """One per process: a projection, and what it lacks is counted."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        tail: Tail,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        evaluators: Evaluators,
        recent: RecentEvents,
    ) -> None:
        self._db = db
        self._tail = tail
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._evaluators = evaluators
        self._recent = recent
        self._unread: OrderedDict[int, dict[int, UnreadCount]] = OrderedDict()
        """room_nid -> user_nid -> unread count."""
        self._size = 0
        self._deltas: OrderedDict[tuple[int, Evaluator, Position, Position], Delta | None] = OrderedDict()

    async def of(self, request: SyncRequest, rooms: Mapping[int, RoomIdentity]) -> dict[int, Section]:
        """room_nid -> members of its section. `rooms`: by number, those the user is joined to."""
        user = await self._evaluators.of(request.requester.user_nid, request.requester.user_id)
        rules = (user, request.unwanted)
        per_thread = request.filter.room.timeline.unread_thread_notifications
        found: dict[int, Section] = {}
        missing: dict[int, Evaluator] = {}
        work = WorkBudget(EVENT_WORK)
        for number, (nid, name) in enumerate(rooms.items(), 1):
            if number % ROOMS_AT_ONCE == 0:
                await asyncio.sleep(0)
            evaluator = user.evaluator.in_room(name.room_id)
            unread = await self._moved(request, nid, evaluator, (rules, work))
            if unread is None:
                missing[nid] = evaluator
            else:
                found[nid] = unread.members(per_thread=per_thread)
        if missing:
            for nid, unread in (await self._counted(request, missing, rules)).items():
                found[nid] = unread.members(per_thread=per_thread)
        return found

    # --- in memory -------------------------------------------------------------------------------------------------

    async def _moved(
        self,
        request: SyncRequest,
        room_nid: int,
        evaluator: Evaluator,
        by: tuple[tuple[object, object], WorkBudget],
    ) -> UnreadCount | None:
        """The user's unread count with everything that has happened since; None if there is none that holds. `by`: the
        rules it must have been counted by, and what looking into events may cost.
        """
        user_nid = request.requester.user_nid
        rules, work = by
        unread = self._unread.get(room_nid, {}).get(user_nid)
        if unread is None or unread.rules != rules:
            return None
        if self._recent.newest(room_nid) <= unread.position:
            return unread
        around = None
        if not evaluator.by_facts:
            around = await around_of(await self._rooms.get(room_nid), self._events, request.requester.user_id)
            if self._unread.get(room_nid, {}).get(user_nid) is not unread:
                return None
        # From here on nothing is awaited: two answers may move the same count.
        self._unread.move_to_end(room_nid)
        reading = Reading(user_nid, request.ignored, evaluator, around, work)
        delta = self._delta(room_nid, unread.position, evaluator)
        if delta is not None and unread.apply(delta, reading):
            return unread
        events = self._recent.after(room_nid, unread.position)
        if events is None or (events and not unread.move(events, reading)):
            self._drop(room_nid, user_nid)
            return None
        return unread

    def _delta(self, room_nid: int, since: Position, evaluator: Evaluator) -> Delta | None:
        """What is new in a room: the same for most of those who ask together. None if it must be told one by one."""
        key = (room_nid, evaluator, since, self._recent.newest(room_nid))
        if key not in self._deltas:
            events = self._recent.after(room_nid, since)
            self._deltas[key] = delta_of(events, evaluator) if events else None
            if len(self._deltas) > MAX_DELTAS:
                self._deltas.popitem(last=False)
        return self._deltas[key]

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {ReceiptEntry: self._read}

    def reset(self) -> None:
        self._deltas.clear()
        self._unread.clear()
        self._size = 0

    def _read(self, _: Position, entry: ReceiptEntry) -> None:
        unread = self._unread.get(entry.room_nid, {}).get(entry.user_nid)
        if unread is not None and not unread.read(entry.thread, entry.event_nid):
            self._drop(entry.room_nid, entry.user_nid)

    def _drop(self, room_nid: int, user_nid: int) -> None:
        del self._unread[room_nid][user_nid]
        self._size -= 1

    def _keep(self, room_nid: int, user_nid: int, unread: UnreadCount) -> None:
        unread_by_room = self._unread.setdefault(room_nid, {})
        self._size += user_nid not in unread_by_room
        unread_by_room[user_nid] = unread
        while self._size > MAX_TALLIES and len(self._unread) > 1:
            _, dropped = self._unread.popitem(last=False)
            self._size -= len(dropped)

    # --- in the database -------------------------------------------------------------------------------------------

    async def _counted(
        self, request: SyncRequest, evaluators: Mapping[int, Evaluator], rules: tuple[object, object]
    ) -> dict[int, UnreadCount]:
        """Tallies from what is stored: at most four flights, one more for rules that look into events."""
        user_nid, position, resets = request.requester.user_nid, self._tail.position, self._recent.resets
        unread_by_room = {nid: UnreadCount(position, rules) for nid in evaluators}
        loud = [nid for nid, evaluator in evaluators.items() if not evaluator.silent]
        ignored = await self._interning.find_user_nids([UserId(user) for user in request.ignored])
        if loud:
            async with self._db.read() as tx:
                async with tx.pipeline() as batch:
                    joins = store.find_joins(batch, user_nid, loud)
                    read = store.find_read(batch, user_nid, loud)
                receipts = read.result
                query = _unread_query(
                    user_nid, list(ignored.values()), position, dict(joins.result), receipts
                )
                by_facts = _only(query, {nid for nid in loud if evaluators[nid].by_facts})
                if by_facts.rooms:
                    for each in await store.count_unread(tx, by_facts):
                        outcome = evaluators[each.room_nid].by_fact(each.bits, each.mentioned)
                        if outcome is not None and outcome.notify:
                            unread_by_room[each.room_nid].add(
                                each.thread, each.events, each.newest, highlight=outcome.highlight
                            )
                looking = _only(query, {nid for nid in loud if not evaluators[nid].by_facts})
                found = await store.find_unread(tx, looking) if looking.rooms else []
            await self._look_into(request, found, evaluators, unread_by_room)
            for nid, thread, upto in receipts:
                unread_by_room[nid].read(thread, upto)
        if resets == self._recent.resets and position >= self._tail.floor:
            stale = self._catch_up(user_nid, position, unread_by_room)
            for nid in unread_by_room.keys() - stale:
                self._keep(nid, user_nid, unread_by_room[nid])
        return unread_by_room

    def _catch_up(
        self, user_nid: int, position: Position, unread_by_room: Mapping[int, UnreadCount]
    ) -> set[int]:
        """Receipts that came while we counted. Returns rooms of which we cannot tell what they leave."""
        since = self._tail.since(position) if position < self._tail.position else ()
        receipts = [entry for _, entry in since if isinstance(entry, ReceiptEntry)]
        own = [entry for entry in receipts if entry.user_nid == user_nid and entry.room_nid in unread_by_room]
        return {
            each.room_nid
            for each in own
            if not unread_by_room[each.room_nid].read(each.thread, each.event_nid)
        }

    async def _look_into(
        self,
        request: SyncRequest,
        found: Sequence[store.UnreadEvent],
        evaluators: Mapping[int, Evaluator],
        unread_by_room: Mapping[int, UnreadCount],
    ) -> None:
        """Count events that rules may have to look into."""
        unsure = [
            each for each in found if evaluators[each.room_nid].by_fact(each.bits, each.mentioned) is None
        ]
        loaded = await self._events.load([each.event_nid for each in unsure[:MAX_LOOKED_INTO]])
        rooms = await self._rooms.get_many({each.room_nid for each in unsure[:MAX_LOOKED_INTO]})
        arounds = {
            nid: await around_of(room, self._events, request.requester.user_id) for nid, room in rooms.items()
        }
        left, since_turn = ANSWER_WORK, 0
        for each in found:
            evaluator = evaluators[each.room_nid]
            outcome = evaluator.by_fact(each.bits, each.mentioned)
            if outcome is None and each.event_nid in loaded and left > 0:
                persisted = loaded[each.event_nid]
                context = EvaluationContext(persisted.event, arounds[each.room_nid])
                outcome = evaluator.decide(context, persisted.facts, each.mentioned)
                spent = EVENT_WORK - context.work.left
                left, since_turn = left - spent, since_turn + spent
                if since_turn > EVENT_WORK:
                    since_turn = 0
                    await asyncio.sleep(0)
            if outcome is not None and outcome.notify:
                unread_by_room[each.room_nid].add(each.thread, 1, each.event_nid, highlight=outcome.highlight)


def _unread_query(
    user_nid: int,
    ignored: Sequence[int],
    upto: Position,
    joins: Mapping[int, Position],
    receipts: Sequence[tuple[int, str, Position]],
) -> store.UnreadQuery:
    rooms = dict(joins)
    threads: dict[tuple[int, str], Position] = {}
    for room, thread, at in receipts:
        if thread == UNTHREADED:
            rooms[room] = max(at, rooms.get(room, 0))
        else:
            threads[room, thread] = at
    return store.UnreadQuery(user_nid, ignored, upto, rooms, threads)


def _only(query: store.UnreadQuery, rooms: Collection[int]) -> store.UnreadQuery:
    return query._replace(
        rooms={room: at for room, at in query.rooms.items() if room in rooms},
        threads={key: at for key, at in query.threads.items() if key[0] in rooms},
    )
