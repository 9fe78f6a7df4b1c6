"""Events made elsewhere become part of a room: the state before them, the rules, the room's new forward extremities and state.

Signatures and hashes have been checked by whoever got the event; its previous and auth events must be here.
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6), #rejection, #soft-failure
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from psycopg import IntegrityError

from homeserver.events import auth_rules
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import Event, StateKey
from homeserver.events.push_facts import Facts
from homeserver.events.redaction import redact_event
from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Replaced
from homeserver.graph.refs import MEMBERSHIPS, REJECTED, SOFT_FAILED, EventRef, StateRef, flags_of
from homeserver.graph.relations import relation_of
from homeserver.graph.resolved import THIS_EVENT, NewState
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.resolver import StateResolver, UnwrittenEvent
from homeserver.graph.state.states import StateMap, StateStore
from homeserver.graph.write.facts import facts_in, thread_of_related
from homeserver.graph.write.forward_extremities import ForwardExtremities
from homeserver.graph.write.redactions import Effect, Redactions, relevant
from homeserver.log.entries import Append, Conflict
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import EventId, ServerName, UserId, domain_of
from homeserver.policy.gate import Gate

MAX_TRIES = 60
CREATE: StateKey = ("m.room.create", "")
MEMBER = "m.room.member"


class MissingEvents(Exception):
    """Events that this one refers to are not here; fetch them first."""

    def __init__(self, event_ids: Sequence[EventId]) -> None:
        super().__init__(f"{len(event_ids)} events are not here")
        self.event_ids = list(event_ids)


class _Before(NamedTuple):
    """The state before an event."""

    ref: StateRef
    state: StateMap
    new: NewState | None


class _After(NamedTuple):
    """The room with an event in it."""

    extremities: tuple[EventRef, ...]
    room_state: StateRef
    changes: tuple[StateChange, ...] = ()
    new: NewState | None = None
    superseded: StateChange | None = None


class Receiver:
    """Takes events made elsewhere into rooms: state before, auth rules, resolution, append. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        log: LogWriter,
        rooms: Rooms,
        events: EventCache,
        states: StateStore,
        resolver: StateResolver,
        interning: Interning,
        extremities: ForwardExtremities,
        redactions: Redactions,
        gate: Gate,
        server_name: ServerName,
    ) -> None:
        self._log = log
        self._rooms = rooms
        self._events = events
        self._states = states
        self._resolver = resolver
        self._interning = interning
        self._forward_extremities = extremities
        self._redactions = redactions
        self._gate = gate
        self._server_name = server_name

    async def receive(self, event: Event) -> PersistedEvent:
        """Write an event of a known room, or return it if it is here. Flags say whether it was rejected or soft failed.

        What policy refuses is soft failed: later events build on it, but nobody is told of it.
        Raises `MissingEvents`, `Unavailable` (the room is too busy, or a policy check fails).
        spec: server-server-api/#soft-failure
        """
        known = await self._events.by_id(event.event_id)
        if known is not None:
            return known
        room = await self._rooms.known(event.room_id)
        prev = await self._all(event.prev_event_ids)
        auth = await self._all(event.auth_event_ids)
        passage = await self._gate.examine(event)
        before = await self._before(room, prev)
        rejected = await self._is_rejected(room, event, auth, before)
        refused = REJECTED if rejected else SOFT_FAILED if passage.refused else 0
        for _ in range(MAX_TRIES):
            await self._settle(room)
            entry = await self._entry(room, event, prev, auth, before, refused)
            try:
                await self._log.add(Append([entry], cause=passage))
            except Conflict:
                # Others have written, perhaps this very event; and the room may have left memory meanwhile.
                known = await self._events.by_id(event.event_id)
                if known is not None:
                    return known
                room = await self._rooms.latest(room.name.nid)
                before = await self._before(room, prev)  # a state that was found may be gone
                continue
            except IntegrityError:  # one that changes nothing of the room meets no conflict
                known = await self._events.by_id(event.event_id)
                if known is None:
                    raise
                return known
            await self._forward_extremities.merge(room.name.nid)
            return entry.persisted
        raise Unavailable("The room is too busy, try again")

    async def _settle(self, room: Room) -> None:
        """Wait for what is in flight in this process."""
        if not room.idle:
            await self._log.add(Append(()))

    async def _all(self, event_ids: Sequence[EventId]) -> list[PersistedEvent]:
        numbers = await self._events.numbers(event_ids)
        missing = [event_id for event_id in event_ids if event_id not in numbers]
        if missing:
            raise MissingEvents(missing)
        loaded = await self._events.load(numbers.values())
        return [loaded[numbers[event_id]] for event_id in event_ids]

    # --- the rules -------------------------------------------------------------------------------------------------

    async def _before(self, room: Room, prev: Sequence[PersistedEvent]) -> _Before:
        nids = list(dict.fromkeys(persisted.state_after_nid for persisted in prev))
        heights = await self._states.heights(nids)
        maps = [await self._states.load(nid) for nid in nids]
        state = await self._resolver.resolve(room.name.version, maps)
        for nid, each in zip(nids, maps, strict=True):
            if each == state:
                return _Before(StateRef(heights[nid], nid=nid), state, None)
        new = await self._resolver.new_state(state, nids[0])
        return _Before(StateRef(new.height, nid=new.nid), state, new)

    async def _is_rejected(
        self, room: Room, event: Event, auth: Sequence[PersistedEvent], before: _Before
    ) -> bool:
        """Steps 4 and 5: by its auth events, and by the state before it."""
        bad = {persisted.event.event_id for persisted in auth if persisted.flags & REJECTED}
        cited = {
            persisted.event.key: persisted.event for persisted in auth if persisted.event.key is not None
        }
        create = room.state.get(CREATE)
        if create is not None and CREATE not in cited:
            found = await self._events.one(create)
            if found is not None:
                cited[CREATE] = found.event
        try:
            auth_rules.check_auth_events(event, [persisted.event for persisted in auth], bad)
            auth_rules.check(event, cited, event.room_version)
            auth_rules.check(
                event, await relevant(self._interning, self._events, event, before.state), event.room_version
            )
        except auth_rules.Rejected:
            return True
        return False

    async def _soft_fails(self, room: Room, event: Event) -> bool:
        """Step 6: by the current state. spec: server-server-api/#soft-failure"""
        keys = [*auth_keys_of(event), CREATE]
        loaded = await self._events.load([room.state[key] for key in keys if key in room.state])
        state = {
            persisted.event.key: persisted.event
            for persisted in loaded.values()
            if persisted.event.key is not None
        }
        try:
            auth_rules.check(event, state, event.room_version)
        except auth_rules.Rejected:
            return True
        return False

    async def _facts(self, room: Room, event: Event, state: StateMap) -> Facts:
        relation = relation_of(event)
        thread = await thread_of_related(self._events, room.name.nid, relation) if relation else None
        return facts_in(room, event, await relevant(self._interning, self._events, event, state), thread)

    # --- the room with it ------------------------------------------------------------------------------------------

    async def _entry(  # noqa: PLR0917  # one value each, called in one place
        self,
        room: Room,
        event: Event,
        prev: Sequence[PersistedEvent],
        auth: Sequence[PersistedEvent],
        before: _Before,
        refused: int,
    ) -> EventEntry:
        """`refused`: REJECTED, SOFT_FAILED, or 0 if only the room's current state can still speak against it."""
        base, current = room.extremities, room.room_state
        refused = refused or (SOFT_FAILED if await self._soft_fails(room, event) else 0)
        nid = room.name.nid
        effect = Effect() if refused else await self._redactions.effect(nid, event, before.state)
        redaction = await self._redactions.waiting_for(nid, event)
        original = None
        if redaction is not None:
            original, event = event.pdu, redact_event(event)
        nids = await self._interning.user_nids(_users_of(event))
        key_nid = (await self._interning.key_nids([event.key]))[event.key] if event.key is not None else None
        ref = EventRef(event.event_id, 0, event.depth)
        old_nid = before.state.get(key_nid) if key_nid is not None else None
        old = await self._events.one(old_nid) if old_nid else None
        persisted = PersistedEvent(
            event,
            ref,
            room_nid=room.name.nid,
            sender_nid=nids[event.sender],
            state_before=before.ref,
            flags=refused | flags_of(event) | effect.flags,
            replaced=_replaced(old),
            redaction=redaction,
            facts=await self._facts(room, event, before.state),
        )
        after = _After(base, current)
        if not refused:
            own = UnwrittenEvent(event, [each.nid for each in auth])
            after = await self._after(
                room, base, current, persisted, own, {each.nid for each in prev}, before, key_nid
            )
        return EventEntry(
            persisted=persisted,
            base=base,
            extremities=after.extremities,
            room_state=after.room_state,
            prev=tuple(each.ref for each in prev),
            auth=tuple(each.ref for each in auth),
            changes=after.changes,
            key_nid=key_nid,
            replaces=old.ref if old else None,
            new_states=tuple(new for new in (before.new, after.new) if new is not None),
            superseded=after.superseded,
            redacts=effect.target,
            waits_for=effect.waits_for,
            original=original,
        )

    async def _after(  # noqa: PLR0917  # one value each, called in one place
        self,
        room: Room,
        base: Sequence[EventRef],
        current: StateRef,
        persisted: PersistedEvent,
        own: UnwrittenEvent,
        prev: Collection[int],
        before: _Before,
        key_nid: int | None,
    ) -> _After:
        """The room once the event is in."""
        event, ref = persisted.event, persisted.ref
        extremities = self._forward_extremities.newest(
            room, (*(each for each in base if each.nid not in prev), ref)
        )
        others = extremities[:-1]
        state = before.state if key_nid is None else {**before.state, key_nid: THIS_EVENT}
        made: NewState | None = None
        if not others:
            room_state = before.ref if key_nid is None else StateRef(before.ref.height + 1, event=ref)
        else:
            branches = [state, *await self._states_after(others)]
            state = await self._resolver.resolve(room.name.version, branches, own)
            if state == await self._states.load(current.nid):
                room_state = current
            else:
                made = await self._resolver.new_state(state, current.nid)
                room_state = StateRef(made.height, nid=made.nid)
        changes = await self._changes(current, state, event, ref)
        superseded = None
        if key_nid is not None and state.get(key_nid) != THIS_EVENT:
            superseded = await self._standing(key_nid, state.get(key_nid))
        return _After(extremities, room_state, changes, made, superseded)

    async def _standing(self, key_nid: int, nid: int | None) -> StateChange:
        """What stands at a key."""
        names = await self._interning.keys([key_nid])
        persisted = await self._events.one(nid) if nid else None
        return StateChange(names[key_nid], key_nid, persisted.ref if persisted else None)

    async def _states_after(self, refs: Sequence[EventRef]) -> list[StateMap]:
        loaded = await self._events.load([ref.nid for ref in refs])
        return [await self._states.load(loaded[ref.nid].state_after_nid) for ref in refs]

    async def _changes(
        self, current: StateRef, state: StateMap, own: Event, ref: EventRef
    ) -> tuple[StateChange, ...]:
        """What makes the room's current state this one."""
        now = await self._states.load(current.nid)
        changed = dict(state.items() - now.items())
        gone = now.keys() - state.keys()
        names = await self._interning.keys([*changed, *gone])
        events = await self._events.load([nid for nid in changed.values() if nid != THIS_EVENT])
        users = [UserId(names[key][1]) for key in (*changed, *gone) if names[key][0] == MEMBER]
        nids = await self._interning.user_nids(users)
        found: list[StateChange] = []
        for key_nid, nid in changed.items():
            event = own if nid == THIS_EVENT else events[nid].event
            place = ref if nid == THIS_EVENT else events[nid].ref
            found.append(self._change(names[key_nid], key_nid, place, event.membership, nids))
        found += [self._change(names[key_nid], key_nid, None, None, nids) for key_nid in gone]
        return tuple(found)

    def _change(
        self,
        key: StateKey,
        key_nid: int,
        ref: EventRef | None,
        membership: str | None,
        nids: Mapping[UserId, int],
    ) -> StateChange:
        if key[0] != MEMBER:
            return StateChange(key, key_nid, ref)
        user_id = UserId(key[1])
        local = domain_of(user_id) == self._server_name
        return StateChange(key, key_nid, ref, nids[user_id], MEMBERSHIPS.get(membership or ""), local)


def _users_of(event: Event) -> list[UserId]:
    target = [UserId(event.state_key)] if event.type == MEMBER and event.state_key is not None else []
    return [event.sender, *target]


def _replaced(old: PersistedEvent | None) -> Replaced | None:
    if old is None:
        return None
    return Replaced(old.ref, old.event.event_id, old.event.sender, old.event.content_json)
