"""Counts of what is unread, for the rooms in an answer of `/sync`.

Nobody counts while an event is sent. An event counts by the rules its reader had when it came, not by those of today, and
not if they have ignored its sender at any time since (see `past_rules`). A reader's unread count is kept in memory from
answer to answer and moved on by the room's events since; whoever is not in memory is counted in the database, all rooms of
the answer together. Nothing is stored beside events, receipts and what rules were, so nothing can be lost, and every
process finds the same.

spec: client-server-api/#receiving-notifications (SYNC-11, SYNC-12, PUSH-14)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

from homeserver.events.push_facts import marks_unread
from homeserver.events.push_rules import EVENT_WORK, SILENT, EvaluationContext
from homeserver.graph.entry import EventEntry, RedactedEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Entry, Position, Written
from homeserver.log.tail import Tail
from homeserver.matrix.glob import WorkBudget
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.around import around_of
from homeserver.push.evaluator import Evaluator
from homeserver.push.evaluators import Evaluators, UserEvaluator
from homeserver.push.past_rules import Past, RulesOverTime, Unheard, unheard_by
from homeserver.push.recent import RecentEvents
from homeserver.push.unread_count import Delta, Reading, UnreadCount, delta_of
from homeserver.receipts.types import UNTHREADED, ReceiptEntry
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.sync.types import SyncRequest, Unwanted

MAX_TALLIES: Final = 100_000
"""Over all rooms and users; some 500 bytes each."""
MAX_DELTAS: Final = 256
MAX_LOOKED_INTO: Final = 2_000
"""Events that one answer looks into for keywords and the like: the newest."""
ANSWER_WORK: Final = 16 * EVENT_WORK
"""What looking into them may cost. What is left then counts as no rule of one's own would have it."""
PAIRS_AT_ONCE: Final = 200
"""Rooms of readers that are counted together: 100 000 events at most."""
ROOMS_AT_ONCE: Final = 100
"""Counted together; then others have a turn."""

Section = dict[str, bytes]
T = TypeVar("T")


class Counting(NamedTuple):
    """Whose unread events are counted."""

    user_nid: int
    user_id: UserId
    unwanted: Unwanted

    @property
    def ignored(self) -> frozenset[str]:
        """User ids the user does not want to hear of."""
        return self.unwanted.ignored


class UnreadCounts:
    """A projection: unread counts of readers by room, moved on by the room's events; a bounded cache. What it lacks is counted."""

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
        per_thread = request.filter.room.timeline.unread_thread_notifications
        counting = Counting(request.requester.user_nid, request.requester.user_id, request.unwanted)
        return await self._each(counting, rooms, lambda unread: unread.members(per_thread=per_thread))

    async def notifications(self, request: Counting, rooms: Mapping[int, RoomIdentity]) -> dict[int, int]:
        """room_nid -> how many events notify that are not read. `rooms`: as in `of`."""
        return await self._each(request, rooms, lambda unread: unread.notifications)

    async def prepare(self, readers: Sequence[Counting], rooms: Mapping[int, Collection[int]]) -> None:
        """Count together what is not in memory, as far as that goes: of who has ignored nobody, by rules that facts answer and
        that are as old as what is counted. The others are counted when they are asked for. `rooms`: user_nid -> room_nids
        that they are joined to. Three flights for `PAIRS_AT_ONCE` rooms of readers.
        """
        users = await self._evaluators.of_many({each.user_nid: each.user_id for each in readers})
        plain = {
            each.user_nid: users[each.user_nid]
            for each in readers
            if not each.unwanted.since and not users[each.user_nid].evaluator.tries_rooms
        }
        pairs = [
            store.Pair(nid, room)
            for nid in plain
            for room in rooms[nid]
            if nid not in self._unread.get(room, ())
        ]
        for some in pieces(pairs, PAIRS_AT_ONCE):
            await self._count_together(some, plain)
            await next_turn()

    async def _count_together(self, pairs: Sequence[store.Pair], users: Mapping[int, UserEvaluator]) -> None:
        position, resets = self._tail.position, self._recent.resets
        names = await self._interning.rooms({pair.room_nid for pair in pairs})
        rules = {pair: users[pair.user_nid].evaluator.in_room(names[pair.room_nid].room_id) for pair in pairs}
        asked = [pair for pair in pairs if rules[pair].by_facts or rules[pair].silent]
        if not asked:
            return
        async with self._db.read() as tx:
            async with tx.pipeline() as batch:
                joins, read = store.find_joins_of(batch, asked), store.find_read_of(batch, asked)
            after = {store.Pair(user, room): at for user, room, at in joins.result}
            threads: dict[tuple[int, int, str], Position] = {}
            for user, room, thread, at in read.result:
                if thread != UNTHREADED:
                    threads[user, room, thread] = at
                elif (user, room) in after:
                    after[store.Pair(user, room)] = max(at, after[store.Pair(user, room)])
            after = {pair: at for pair, at in after.items() if at >= users[pair.user_nid].since}
            threads = {key: at for key, at in threads.items() if key[:2] in after}
            counted = await store.count_unread_of(tx, after, threads, position) if after else []
        unread = {pair: UnreadCount(position, 0) for pair in after}
        for user_nid, each in counted:
            pair = store.Pair(user_nid, each.room_nid)
            outcome = rules[pair].by_fact(each.bits, each.mentioned, each.thread) or SILENT
            unread[pair].add(each.thread, each.events, each.newest, outcome, marks=marks_unread(each.bits))
        for user, room, thread, upto in read.result:
            if (user, room) in unread:
                unread[store.Pair(user, room)].read(thread, upto)
        if resets == self._recent.resets and position >= self._tail.floor:
            self._keep_pairs(unread, users, position)

    def _keep_pairs(
        self,
        unread: Mapping[store.Pair, UnreadCount],
        users: Mapping[int, UserEvaluator],
        position: Position,
    ) -> None:
        """Keep what was counted together at a position, if it still holds."""
        by_user: dict[int, dict[int, UnreadCount]] = {}
        for pair, count in unread.items():
            by_user.setdefault(pair.user_nid, {})[pair.room_nid] = count
        for user_nid, counts in by_user.items():
            if not self._evaluators.is_current(user_nid, users[user_nid]):
                continue
            stale = self._catch_up(user_nid, position, counts)
            for nid in counts.keys() - stale:
                self._keep(nid, user_nid, counts[nid])

    async def _each(
        self, request: Counting, rooms: Mapping[int, RoomIdentity], tell: Callable[[UnreadCount], T]
    ) -> dict[int, T]:
        user_nid = request.user_nid
        found: dict[int, T] = {}
        if len(rooms) < ROOMS_AT_ONCE:
            found = {
                nid: tell(unread) for nid in rooms if (unread := self._current(request, nid)) is not None
            }
            if len(found) == len(rooms):
                return found
            rooms = {nid: name for nid, name in rooms.items() if nid not in found}
        user = await self._evaluators.of(user_nid, request.user_id)
        rules = _Rules(user, await self._past(user_nid, user, rooms), WorkBudget(EVENT_WORK))
        missing: dict[int, RoomIdentity] = {}
        at_once = 4 if rules.tries_rooms else ROOMS_AT_ONCE
        for number, (nid, name) in enumerate(rooms.items(), 1):
            if number % at_once == 0:
                await next_turn()
            unread = await self._moved(request, name, rules)
            if unread is None:
                missing[nid] = name
            else:
                found[nid] = tell(unread)
        unheard = await unheard_by(self._db, self._interning, user_nid, request.unwanted) if missing else None
        for some in pieces(missing, ROOMS_AT_ONCE):
            if len(missing) > ROOMS_AT_ONCE:
                await next_turn()
            assert unheard is not None
            counted = await self._counted(request, {nid: missing[nid] for nid in some}, user, unheard)
            for nid, unread in counted.items():
                found[nid] = tell(unread)
        return found

    async def _past(self, user_nid: int, user: UserEvaluator, room_nids: Iterable[int]) -> Past:
        """Rules of before that events come under which are not counted yet."""
        if not user.since:
            return ()
        counts = (self._unread.get(nid, {}).get(user_nid) for nid in room_nids)
        first = min((unread.position for unread in counts if unread is not None), default=user.since)
        if first >= user.since:
            return ()
        async with self._db.read() as tx:
            return await self._evaluators.past(tx, user_nid, first)

    # --- in memory -------------------------------------------------------------------------------------------------

    def _current(self, request: Counting, room_nid: int) -> UnreadCount | None:
        """The user's unread count if nothing has happened since that is not in it."""
        counts = self._unread.get(room_nid)
        unread = counts.get(request.user_nid) if counts is not None else None
        if unread is None or unread.unwanted_since != request.unwanted.since:
            return None
        return unread if self._recent.newest(room_nid) <= unread.position else None

    async def _moved(self, request: Counting, room: RoomIdentity, by: _Rules) -> UnreadCount | None:
        """The user's unread count with everything that has happened since; None if there is none that holds."""
        user_nid, room_nid = request.user_nid, room.nid
        unread = self._unread.get(room_nid, {}).get(user_nid)
        if unread is None or unread.unwanted_since != request.unwanted.since:
            return None
        if self._recent.newest(room_nid) <= unread.position:
            return unread
        rules = RulesOverTime(by.user.evaluator, by.past).in_room(room.room_id, unread.position)
        around = None
        if not rules.by_facts:
            around = await around_of(await self._rooms.get(room_nid), self._events, request.user_id)
            if self._unread.get(room_nid, {}).get(user_nid) is not unread:
                return None
        # From here on nothing is awaited: two answers may move the same count.
        if not self._evaluators.is_current(user_nid, by.user):
            return None
        self._unread.move_to_end(room_nid)
        reading = Reading(user_nid, request.ignored, rules.current, around, by.work)
        delta = None if rules.past else self._delta(room_nid, unread.position, rules.current)
        if delta is not None and unread.apply(delta, reading):
            return unread
        events = self._recent.after(room_nid, unread.position)
        if events is None or not _move(unread, events, rules, reading):
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
        return {ReceiptEntry: self._read, RedactedEntry: self._redacted}

    def reset(self) -> None:
        self._deltas.clear()
        self._unread.clear()
        self._size = 0

    def _read(self, _: Position, entry: ReceiptEntry) -> None:
        unread = self._unread.get(entry.room_nid, {}).get(entry.user_nid)
        if unread is not None and not unread.read(entry.thread, entry.event_nid):
            self._drop(entry.room_nid, entry.user_nid)

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        self._size -= len(self._unread.pop(entry.room_nid, ()))

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
        self, request: Counting, rooms: Mapping[int, RoomIdentity], user: UserEvaluator, unheard: Unheard
    ) -> dict[int, UnreadCount]:
        """Counts of some rooms from what is stored: at most five flights, one more for rules that look into events."""
        user_nid, position, resets = request.user_nid, self._tail.position, self._recent.resets
        unread_by_room = {nid: UnreadCount(position, request.unwanted.since) for nid in rooms}
        names = {nid: name.room_id for nid, name in rooms.items()}
        async with self._db.read() as tx:
            async with tx.pipeline() as batch:
                joins = store.find_joins(batch, user_nid, list(rooms))
                read = store.find_read(batch, user_nid, list(rooms))
            query = unread_query(user_nid, unheard, position, dict(joins.result), read.result)
            first, past = min(query.rooms.values(), default=position), None
            if first < user.since:
                past = await self._evaluators.past(tx, user_nid, first)
        over_time, after = RulesOverTime(user.evaluator), None
        if past is not None:
            over_time, after = (
                over_time._replace(past=past),
                {nid: query.rooms.get(nid, position) for nid in rooms},
            )
            query = query._replace(changes=[upto for upto, _ in past])
        rules = await over_time.in_rooms(names, after)
        async with self._db.read() as tx:
            found = await _count_by_facts(tx, query, rules, unread_by_room)
        await self._look_into(request, found, rules, unread_by_room)
        for nid, thread, upto in read.result:
            unread_by_room[nid].read(thread, upto)
        if (
            resets == self._recent.resets
            and position >= self._tail.floor
            and self._evaluators.is_current(user_nid, user)
        ):
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
        request: Counting,
        found: Sequence[store.UnreadEvent],
        rules: Mapping[int, RulesOverTime],
        unread_by_room: Mapping[int, UnreadCount],
    ) -> None:
        """Count events that rules may have to look into."""
        unsure = [
            each
            for each in found
            if rules[each.room_nid].at(each.event_nid).by_fact(each.bits, each.mentioned, each.thread) is None
        ]
        loaded = await self._events.load([each.event_nid for each in unsure[:MAX_LOOKED_INTO]])
        rooms = await self._rooms.get_many({each.room_nid for each in unsure[:MAX_LOOKED_INTO]})
        arounds = {nid: await around_of(room, self._events, request.user_id) for nid, room in rooms.items()}
        left, since_turn = ANSWER_WORK, 0
        for each in found:
            evaluator = rules[each.room_nid].at(each.event_nid)
            outcome = evaluator.by_fact(each.bits, each.mentioned, each.thread)
            if outcome is None and each.event_nid in loaded and left > 0:
                persisted = loaded[each.event_nid]
                context = EvaluationContext(persisted.event, arounds[each.room_nid])
                outcome = evaluator.decide(context, persisted.facts, each.mentioned)
                spent = EVENT_WORK - context.work.left
                left, since_turn = left - spent, since_turn + spent
                if since_turn > EVENT_WORK:
                    since_turn = 0
                    await next_turn()
            unread_by_room[each.room_nid].add(
                each.thread, 1, each.event_nid, outcome or SILENT, marks=marks_unread(each.bits)
            )


class _Rules(NamedTuple):
    """What the events of an answer are counted by."""

    user: UserEvaluator
    past: Past
    work: WorkBudget
    """What looking into events may cost."""

    @property
    def tries_rooms(self) -> bool:
        """See `Evaluator.tries_rooms`."""
        return self.user.evaluator.tries_rooms or any(each.tries_rooms for _, each in self.past)


def _move(
    unread: UnreadCount, events: Sequence[Written[EventEntry]], rules: RulesOverTime, reading: Reading
) -> bool:
    """Count events, each by the rules it came under. False if the count is stale now."""
    if not rules.past:
        return not events or unread.move(events, reading)
    return all(
        unread.move(list(together), reading._replace(evaluator=evaluator))
        for evaluator, together in groupby(events, key=lambda written: rules.at(written.position))
    )


async def _count_by_facts(
    tx: Tx,
    query: store.UnreadQuery,
    rules: Mapping[int, RulesOverTime],
    unread_by_room: Mapping[int, UnreadCount],
) -> list[store.UnreadEvent]:
    """Count where facts alone decide. Returns what is unread in the other rooms."""
    by_facts = _only(query, {nid for nid in query.rooms if rules[nid].by_facts or rules[nid].silent})
    if by_facts.rooms:
        for each in await store.count_unread(tx, by_facts):
            outcome = rules[each.room_nid].at(each.newest).by_fact(each.bits, each.mentioned, each.thread)
            unread_by_room[each.room_nid].add(
                each.thread, each.events, each.newest, outcome or SILENT, marks=marks_unread(each.bits)
            )
    looking = _only(query, query.rooms.keys() - by_facts.rooms.keys())
    return await store.find_unread(tx, looking) if looking.rooms else []


def unread_query(
    user_nid: int,
    unheard: Unheard,
    upto: Position,
    joins: Mapping[int, Position],
    receipts: Sequence[tuple[int, str, Position]],
) -> store.UnreadQuery:
    """What to ask for, by when the user came to each room and what they have read."""
    rooms = dict(joins)
    threads: dict[tuple[int, str], Position] = {}
    for room, thread, at in receipts:
        if thread == UNTHREADED:
            rooms[room] = max(at, rooms.get(room, 0))
        else:
            threads[room, thread] = at
    return store.UnreadQuery(user_nid, unheard.now, upto, rooms, threads, unheard.until)


def _only(query: store.UnreadQuery, rooms: Collection[int]) -> store.UnreadQuery:
    return query._replace(
        rooms={room: at for room, at in query.rooms.items() if room in rooms},
        threads={key: at for key, at in query.threads.items() if key[0] in rooms},
    )
