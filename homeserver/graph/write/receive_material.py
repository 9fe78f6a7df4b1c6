"""What receiving events asks the database: everything that a run of events needs, loaded once for all of them and remembered for
as long as they are being received. Once it is `closed`, what is not remembered is refused instead of waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from homeserver.events.ended_stays import asks_to_redact
from homeserver.events.event import Event, StateKey
from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import MEMBER, OUTLIER, REJECTED, SOFT_FAILED, StateRef
from homeserver.graph.resolved import THIS_EVENT, NewState
from homeserver.graph.state.resolver import StateResolver, UnwrittenEvent
from homeserver.graph.state.states import StateMap, StateStore
from homeserver.graph.write import gap_store
from homeserver.graph.write.redactions import Redactions
from homeserver.log.entries import Conflict
from homeserver.matrix.ids import EventId, UserId
from homeserver.storage.database import Database


class Sources(NamedTuple):
    """Where things are loaded from."""

    db: Database
    events: EventCache
    states: StateStore
    resolver: StateResolver
    interning: Interning
    redactions: Redactions

    @classmethod
    def of(cls, db: Database, events: EventCache, states: StateStore, interning: Interning) -> Sources:
        resolver = StateResolver(db, events, states, interning)
        return cls(db, events, states, resolver, interning, Redactions(db, events, states, interning))


class Resolved(NamedTuple):
    """What states become."""

    ref: StateRef | None
    """Which of them it is; None: another one, for which a row has to be found or made."""
    state: StateMap


class Material:
    """Loads for one call of the receiver; owned by it. Grows with the events of the call, whose number is bounded."""

    def __init__(self, room: RoomIdentity, sources: Sources) -> None:
        self.closed = False
        """Nothing may be waited for: what is not remembered raises `Conflict`."""
        self.by_id: dict[EventId, PersistedEvent] = {}
        """Events that are here: those received, those they name, those they relate to."""
        self.outliers: dict[EventId, PersistedEvent] = {}
        """Those of the events received that are here as outliers."""
        self.missed: dict[EventId, int] = {}
        """Those of the events received that events here name as previous -> the gap before those."""
        self.below_joins: set[EventId] = set()
        """Those of `missed` whose gap lies before a join of ours through another server: they are history."""
        self.given: dict[EventId, StateMap] = {}
        """States before events, as told from outside."""
        self.followed: set[EventId] = set()
        """Those of the events received that the next of them alone stands on, and on nothing else: a line."""
        self.hanging: dict[EventId, frozenset[EventId]] = {}
        """Events written without a place among the room's forward extremities, since the next takes it -> what that takes away from
        them, for these.
        """
        self._room = room
        self._sources = sources
        self._events: dict[int, PersistedEvent] = {}
        self._states: dict[int, StateMap] = {0: {}}
        self._heights: dict[int, int] = {0: 0}
        self._users: dict[UserId, int] = {}
        self._keys: dict[StateKey, int] = {}
        self._unset: set[StateKey] = set()
        self._names: dict[int, StateKey] = {}
        self._waiting: set[EventId] = set()
        self._resolved: dict[tuple[frozenset[int], EventId | None], Resolved] = {}
        self._with_own: dict[tuple[EventId, frozenset[int]], StateMap] = {}
        self._rows: dict[frozenset[tuple[int, int]], NewState] = {}

    async def gather(self, events: Sequence[Event], related: Collection[EventId]) -> None:
        """Load what all of these need, with a bounded number of queries. `related`: what they relate to."""
        named = {each for event in events for each in (*event.prev_event_ids, *event.auth_event_ids)}
        own = {event.event_id for event in events}
        async with self._sources.db.read() as tx, tx.pipeline() as batch:
            found = self._sources.events.find_numbers(batch, {*named, *related, *own})
            missed = gap_store.find_missing(batch, self._room.nid, own)
            waiting = self._sources.redactions.waited_for(batch, self._room.nid, own)
        numbers = dict(found.result)
        loaded = await self.load(numbers.values())
        self.by_id = {event_id: loaded[nid] for event_id, nid in numbers.items() if nid in loaded}
        self._find_outliers(own)
        self._miss(missed.result)
        self._waiting = {event_id for (event_id,) in waiting.result}
        await self.users([user for event in events for user in users_of(event)])
        await self.make_keys({event.key for event in events if event.key is not None})

    def _find_outliers(self, own: Collection[EventId]) -> None:
        self.outliers = {
            event_id: known
            for event_id in own
            if (known := self.by_id.get(event_id)) is not None and known.flags & OUTLIER
        }

    def find_lines(self, events: Sequence[Event]) -> None:
        """Which of the events to be written stand in line."""
        self.followed = {
            event.event_id for event, after in pairwise(events) if {*after.prev_event_ids} == {event.event_id}
        }

    def behind(self, event: Event) -> frozenset[EventId]:
        """What is no forward extremity of the room any more once the event is one."""
        hanging = [self.hanging[each] for each in event.prev_event_ids if each in self.hanging]
        return frozenset(event.prev_event_ids).union(*hanging)

    def is_here(self, event_id: EventId) -> bool:
        """Whether an event is here, and whole."""
        known = self.by_id.get(event_id)
        return known is not None and not known.flags & OUTLIER

    async def look_again(self, events: Sequence[Event]) -> None:
        """Others may have written these meanwhile."""
        own = {event.event_id for event in events}
        async with self._sources.db.read() as tx, tx.pipeline() as batch:
            found = self._sources.events.find_numbers(batch, own)
            missed = gap_store.find_missing(batch, self._room.nid, own)
        numbers = dict(found.result)
        loaded = await self.load(numbers.values())
        self.by_id |= {event_id: loaded[nid] for event_id, nid in numbers.items() if nid in loaded}
        self._find_outliers(own)
        self._miss(missed.result)

    def _miss(self, found: Sequence[tuple[EventId, int, bool]]) -> None:
        self.missed = {event_id: gap for event_id, gap, _ in found}
        self.below_joins = {event_id for event_id, _, below in found if below}

    async def tell_states(self, states: Mapping[EventId, Collection[EventId]]) -> None:
        """States before events, as another server tells them: of them count the events that are here and were not rejected."""
        wanted = {event_id for state in states.values() for event_id in state}
        found = await self._sources.events.state_numbers(self._room.nid, wanted)
        for event_id, state in states.items():
            self.given[event_id] = dict(found[each] for each in state if each in found)

    async def redaction_of(self, event: Event, ended: PersistedEvent | None) -> PersistedEvent | None:
        """The redaction that was here before the event and takes effect on it; or `ended`, the kick or ban that ended its sender's
        stay, if that redacts what they said (MSC4293).
        """
        redactions, found = self._sources.redactions, None
        if event.event_id in self._waiting:
            self._open()
            found = await redactions.waiting_for(self._room.nid, event)
        if found is None and ended is not None and ended.nid and asks_to_redact(ended.event):
            self._open()
            found = ended if await redactions.by_ended_stay(ended) else None
        return found

    async def load(self, nids: Collection[int]) -> dict[int, PersistedEvent]:
        """Events by number; those that exist."""
        missing = [nid for nid in nids if nid not in self._events]
        if missing:
            held = {nid: each for nid in missing if (each := self._sources.events.get(nid)) is not None}
            missing = [nid for nid in missing if nid not in held]
            if missing:
                self._open()
                held |= await self._sources.events.load(missing)
            self._events |= held
        return {nid: self._events[nid] for nid in nids if nid in self._events}

    async def users(self, user_ids: Sequence[UserId]) -> dict[UserId, int]:
        """Numbers of users; made for those never seen."""
        missing = [user_id for user_id in user_ids if user_id not in self._users]
        if missing:
            self._open()
            self._users |= await self._sources.interning.user_nids(missing)
        return self._users

    async def make_keys(self, keys: Collection[StateKey]) -> None:
        """Number state keys that may never have been seen."""
        if missing := [key for key in keys if key not in self._keys]:
            self._open()
            self._keys |= await self._sources.interning.key_nids(missing)

    async def keys(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """Numbers of those keys that have one."""
        missing = [key for key in keys if key not in self._keys and key not in self._unset]
        if missing:
            self._open()
            found = await self._sources.interning.find_key_nids(missing)
            self._keys |= found
            self._unset.update(key for key in missing if key not in found)
        return {key: self._keys[key] for key in keys if key in self._keys}

    async def names(self, nids: Collection[int]) -> dict[int, StateKey]:
        """State keys by number."""
        if missing := [nid for nid in nids if nid not in self._names]:
            self._open()
            self._names |= await self._sources.interning.keys(missing)
        return self._names

    async def state(self, nid: int) -> StateMap:
        """The whole state with a number."""
        if nid not in self._states:
            self._open()
            self._states[nid] = await self._sources.states.load(nid)
        return self._states[nid]

    async def reference(self, nid: int) -> StateRef:
        """A state with a number."""
        if nid not in self._heights:
            self._open()
            self._heights |= await self._sources.states.heights([nid])
        return StateRef(self._heights[nid], nid=nid)

    def know_height(self, ref: StateRef) -> None:
        """Of a state that is at hand."""
        if ref.nid:
            self._heights.setdefault(ref.nid, ref.height)

    async def resolve(self, nids: frozenset[int], given: EventId | None = None) -> Resolved:
        """The one state that these numbered states become; `given`: and the one told for this event from outside."""
        if (nids, given) not in self._resolved:
            self._open()
            maps = [await self.state(nid) for nid in sorted(nids)]
            known = self.given[given] if given is not None else None
            state = await self._sources.resolver.resolve(
                self._room.version, maps if known is None else [known, *maps]
            )
            same = next((nid for nid, each in zip(sorted(nids), maps, strict=True) if each == state), None)
            ref = await self.reference(same) if same is not None else None
            self._resolved[nids, given] = Resolved(ref, state)
        return self._resolved[nids, given]

    async def resolve_with(
        self, own: UnwrittenEvent, state: StateMap, others: frozenset[int], before: int
    ) -> StateMap:
        """What becomes of the state with an event that is not written (`state`, on the state `before`), and others."""
        place = (own.event.event_id, others | {before})
        if place not in self._with_own:
            self._open()
            maps = [state, *[await self.state(nid) for nid in sorted(others)]]
            self._with_own[place] = await self._sources.resolver.resolve(self._room.version, maps, own)
        return self._with_own[place]

    async def row(self, state: StateMap, near: int) -> NewState:
        """The row of a state made by resolution, or told from outside."""
        content = frozenset(state.items())
        new = self._rows.get(content)
        if new is None:
            self._open()
            new = await self._sources.resolver.new_state(state, near)
            if THIS_EVENT not in state.values():
                self._rows[content] = new
                self._states[new.nid] = state
            self._heights[new.nid] = new.height
        return new

    def forget_rows(self) -> None:
        """After a conflict: a row that was found may be gone."""
        self._rows.clear()

    def written(self, entry: EventEntry) -> None:
        """An event is committed: what comes may refer to it by its number."""
        persisted = entry.persisted
        if not persisted.flags & (REJECTED | SOFT_FAILED):
            for each in persisted.event.prev_event_ids:
                self.hanging.pop(each, None)
        if entry.waits_for is not None:
            self._waiting.add(entry.waits_for)
        self.by_id[persisted.event.event_id] = persisted
        self._events[persisted.nid] = persisted
        self.know_height(persisted.state_before)

    def _open(self) -> None:
        if self.closed:
            raise Conflict("something must be loaded first")


def users_of(event: Event) -> list[UserId]:
    """Whom an event is of: its sender, and whose membership it is."""
    target = [UserId(event.state_key)] if event.type == MEMBER and event.state_key is not None else []
    return [event.sender, *target]
