"""What one was notified of, the newest first: by the rules one had then, as what is unread is counted.

spec: client-server-api/#listing-notifications (PUSH-18)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from homeserver.events.push_rules import EVENT_WORK, EvaluationContext
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read.page_size import PAGE_BYTES
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId
from homeserver.push import store
from homeserver.push.around import around_of
from homeserver.push.evaluators import Evaluators
from homeserver.push.past_rules import Past, RulesOverTime, unheard_by
from homeserver.receipts.types import UNTHREADED
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.sync.types import Ignores
from homeserver.web.auth import Requester

MAX_LIMIT: Final = 100
AT_ONCE: Final = 200
MAX_SCANS: Final = 5
"""Slices of `AT_ONCE` events that one answer looks through; what it did not reach, the next page does."""
NEWEST: Final[Position] = 2**62


class Page(NamedTuple):
    """Notifications as JSON, and where to go on."""

    notifications: list[bytes]
    next: Position | None


class _Where(NamedTuple):
    """What is asked in one answer."""

    requester: Requester
    rules: Mapping[int, RulesOverTime]
    names: Mapping[int, RoomId]
    read: Mapping[tuple[int, str], Position]
    only_highlights: bool


class Notifications:
    """Answers `/notifications`. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        memberships: Memberships,
        ignores: Ignores,
        evaluators: Evaluators,
        clock: Clock,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._memberships = memberships
        self._ignores = ignores
        self._evaluators = evaluators
        self._clock = clock

    async def page(
        self, requester: Requester, before: Position | None, limit: int, *, only_highlights: bool
    ) -> Page:
        """Events before a position, or the newest; of the rooms the user is in, since they came."""
        joined = (await self._memberships.of(requester.user_nid)).joined
        names = {nid: name.room_id for nid, name in (await self._interning.rooms(joined)).items()}
        user = await self._evaluators.of(requester.user_nid, requester.user_id)
        past: Past = ()
        if user.since:
            async with self._db.read() as tx:
                past = await self._evaluators.past(tx, requester.user_nid, 0)
        over_time = RulesOverTime(user.evaluator, past)
        rules = await over_time.in_rooms(names)
        loud = [nid for nid, each in rules.items() if not each.silent]
        unwanted = await self._ignores.of(requester.user_nid)
        unheard = await unheard_by(self._db, self._interning, requester.user_nid, unwanted)
        async with self._db.read() as tx, tx.pipeline() as batch:
            joins = store.find_joins(batch, requester.user_nid, loud)
            receipts = store.find_read(batch, requester.user_nid, loud)
        read = {(room, thread): at for room, thread, at in receipts.result}
        query = store.UnreadQuery(
            requester.user_nid, unheard.now, NEWEST, dict(joins.result), {}, unheard.until
        )
        where = _Where(requester, rules, names, read, only_highlights)
        return await self._collect(query, where, NEWEST if before is None else before, min(limit, MAX_LIMIT))

    async def _collect(self, query: store.UnreadQuery, where: _Where, before: Position, limit: int) -> Page:
        found: list[bytes] = []
        left = PAGE_BYTES
        for _ in range(MAX_SCANS if query.rooms else 0):
            async with self._db.read() as tx:
                events = await store.find_before(tx, query, before, AT_ONCE)
            for nid, notification in await self._look(events, where):
                left -= len(notification)
                if len(found) == limit or (found and left < 0):
                    return Page(found, before)
                found.append(notification)
                before = nid
            if len(events) < AT_ONCE:
                return Page(found, None)
            before = events[-1].event_nid
        return Page(found, before if query.rooms else None)

    async def _look(self, events: Sequence[store.UnreadEvent], where: _Where) -> list[tuple[Position, bytes]]:
        """Those that notify, as JSON."""
        likely = [each for each in events if self._may_notify(each, where)]
        loaded = await self._events.load([each.event_nid for each in likely])
        rooms = await self._rooms.get_many({each.room_nid for each in likely})
        arounds = {
            nid: await around_of(room, self._events, where.requester.user_id) for nid, room in rooms.items()
        }
        found: list[tuple[Position, bytes]] = []
        spent = 0
        for each in likely:
            persisted = loaded.get(each.event_nid)
            if persisted is None:
                continue
            context = EvaluationContext(persisted.event, arounds[each.room_nid])
            step = (
                where.rules[each.room_nid].at(each.event_nid).step(context, persisted.facts, each.mentioned)
            )
            spent += EVENT_WORK - context.work.left
            if spent > EVENT_WORK:  # others have a turn
                spent = 0
                await next_turn()
            if step is None or not step.outcome.notify:
                continue
            if step.outcome.highlight or not where.only_highlights:
                found.append((each.event_nid, self._json(persisted, each, step.actions, where)))
        return found

    def _may_notify(self, event: store.UnreadEvent, where: _Where) -> bool:
        rules = where.rules[event.room_nid].at(event.event_nid)
        outcome = rules.by_fact(event.bits, event.mentioned, event.thread)
        return outcome is None or outcome.notify

    def _json(
        self, persisted: PersistedEvent, event: store.UnreadEvent, actions: Sequence[Any], where: _Where
    ) -> bytes:
        reader = Reader(where.requester.user_nid, where.requester.device_id)
        read = max(where.read.get((event.room_nid, thread), 0) for thread in (UNTHREADED, event.thread))
        return b'{"actions":%b,"event":%b,"read":%b,"room_id":%b,"ts":%d}' % (
            json.dumps(actions),
            persisted.render(reader, JOIN, self._clock.now_ms()),
            b"true" if event.event_nid <= read else b"false",
            json.dumps(where.names[event.room_nid]),
            persisted.event.origin_server_ts,
        )
