"""A run of events made elsewhere, one on top of the other, on a room as it is: what each does to the room, as log entries.

Events of a run may stand on state events of the same run, which have no number yet, as long as nothing has to be resolved or
compared; where it has, the run ends, and the rest is built when these are written. Nothing is loaded per event (`Material`).

Of a branch that comes in one call, event after event, the room's state is resolved with the last alone: until that is written, the
branch *hangs* beside the room as it is (`_hangs`).
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (steps 4 to 6), #rejection, #soft-failure
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from homeserver.events.event import Event, StateKey
from homeserver.events.push_facts import BRANCHED, STICKY
from homeserver.events.redaction import redact_event
from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import (
    BAN,
    JOIN,
    LEAVE,
    MEMBER,
    OUTLIER,
    REJECTED,
    SOFT_FAILED,
    EventRef,
    StateRef,
    flags_of,
)
from homeserver.graph.relations import relation_of
from homeserver.graph.resolved import THIS_EVENT, NewState
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.resolver import UnwrittenEvent
from homeserver.graph.state.states import StateMap
from homeserver.graph.write.facts import facts_in
from homeserver.graph.write.forward_extremities import MERGE_ABOVE, ForwardExtremities
from homeserver.graph.write.receive_material import Material, Resolved, users_of
from homeserver.graph.write.receive_rules import Grounds, Known, judge, keyed, keys_of
from homeserver.graph.write.receive_states import (
    After,
    Before,
    Cut,
    State,
    change_of,
    replaced,
    want_numbers,
    with_event,
)
from homeserver.graph.write.redactions import REDACTION, Effect, effect_of, ends
from homeserver.log.entries import Conflict
from homeserver.matrix.ids import EventId, ServerName, UserId, domain_of

MAX_RUN = 200
MAX_RUN_BYTES = 2 << 20
"""Of the JSON of events written in one append."""


class Run:
    """Builds entries on a room as it is, whatever is in flight there included. Used once."""

    def __init__(
        self, room: Room, material: Material, extremities: ForwardExtremities, server_name: ServerName
    ) -> None:
        """Raises `Conflict` if state events are in flight in the room."""
        if any(entry.changes for entry in room.pending):
            raise Conflict("the state of the room is about to change")
        self._room = room
        self._material = material
        self._forward_extremities = extremities
        self._server_name = server_name
        self._base = self._first_base = room.head_extremities
        self._current = State(room.head_state, below=room.head_state.nid)
        self._start = room.head_state.nid
        self._now: dict[StateKey, PersistedEvent | None] = {}
        """What of the room's state this run has changed."""
        self._joined = room.joined_count
        self._after: dict[EventId, State] = {ref.event_id: self._current for ref in self._base if not ref.nid}
        self._own: dict[EventId, PersistedEvent] = {}
        self._awaited: set[EventId] = set()
        """What redactions of the run wait for."""
        self._ended = False
        self._declared: set[int] = set()
        """Numbers of states whose rows an entry of the run has."""
        material.know_height(room.room_state)

    @property
    def fits(self) -> bool:
        """Whether the room still is as it was when the run began."""
        return self._room.head_extremities is self._first_base

    async def build(self, events: Sequence[Event], refused: Collection[EventId]) -> list[EventEntry]:
        """Entries of the first of these events: of as many as can be written together, at least one.

        `refused`: those that policy refuses.
        """
        entries: list[EventEntry] = []
        size = 0
        for event in events[:MAX_RUN]:
            size += len(event.pdu)
            if entries and size > MAX_RUN_BYTES:
                break
            try:
                entry = await self._entry(event, refused=event.event_id in refused)
            except Cut:
                assert entries, "the first event of a run stands on what is written"
                break
            entries.append(entry)
            self._advance(entry)
            # Of our own members the next event may mention one who has just come.
            if (
                self._ended
                or (len(entry.extremities) > MERGE_ABOVE and entry.extremities is not entry.base)
                or entry.persisted.redaction is not None
                or any(change.local for change in entry.changes)
            ):
                break
        return entries

    def _advance(self, entry: EventEntry) -> None:
        persisted = entry.persisted
        self._own[persisted.event.event_id] = persisted
        self._base = entry.extremities
        self._declared.update(new.nid for new in entry.new_states)
        if entry.waits_for is not None:
            self._awaited.add(entry.waits_for)

    # --- one event ---------------------------------------------------------------------------------------------------

    async def _entry(self, event: Event, *, refused: bool) -> EventEntry:
        if event.event_id in self._awaited:
            raise Cut
        room, material = self._room, self._material
        prev = [self._known(each) for each in event.prev_event_ids if self._is_known(event, each)]
        auth = [self._known(each) for each in event.auth_event_ids]
        before = await self._before(event, prev)
        grounds = Grounds(auth, before.relevant, await self._room_state(event, prev, before))
        flags, caught_up = await self._judged(event, prev, grounds, refused=refused)
        effect = Effect()
        if event.type == REDACTION and not flags:
            known = {key: each.event for key, each in before.relevant.items()}
            effect = effect_of(event, self._find(event.redacts), room.name.nid, known)
        redaction = await material.redaction_of(event, await self._ended_stay(event, before, flags))
        original = None
        if redaction is not None:
            original, event = event.pdu, redact_event(event)
        old = before.relevant.get(event.key) if event.key is not None else None
        persisted = await self._persisted(event, before, flags | flags_of(event) | effect.flags, redaction)
        if refused:  # spec: MSC4354: what policy refuses is not sticky, so it is not looked at again
            persisted.facts = persisted.facts._replace(bits=persisted.facts.bits & ~STICKY)
        after = After(self._base, self._current)
        own = with_event(before.state, persisted) if not flags & REJECTED else before.state
        if not flags:
            after = await self._room_with(persisted, auth, before.state, own)
        elif caught_up is not None:
            after = (await self._resolved(*caught_up, persisted))._replace(superseded=None)
        self._after[event.event_id] = own
        entry = EventEntry(
            persisted=persisted,
            base=self._base,
            extremities=after.extremities,
            room_state=after.state.ref,
            prev=tuple([each.ref for each in prev]),
            auth=tuple([each.ref for each in auth]),
            changes=after.changes,
            key_nid=(await material.keys([event.key]))[event.key] if event.key is not None else None,
            replaces=old.ref if old else None,
            new_states=tuple(
                new for new in (before.new, after.new) if new is not None and new.nid not in self._declared
            ),
            superseded=after.superseded,
            redacts=effect.target,
            waits_for=effect.waits_for,
            original=original,
            opens_gap=not flags and len(prev) < len(event.prev_event_ids),
            fills_gap=event.event_id in material.missed,
            was=self._was(event.event_id),
        )
        await self._note(persisted, after)
        return entry

    async def _judged(
        self, event: Event, prev: Sequence[PersistedEvent], grounds: Grounds, *, refused: bool
    ) -> tuple[int, tuple[tuple[EventRef, ...], Resolved] | None]:
        """Its flags, and the room with what hangs before it where the event itself cannot take its place."""
        flags = judge(event, grounds, refused=refused)
        caught_up = await self._caught_up(prev) if flags else None
        if caught_up is not None and not refused:
            now = await self._at_keys(caught_up[1].state, event)
            flags = judge(event, grounds._replace(now=now), refused=False)
        return flags, caught_up

    async def _ended_stay(self, event: Event, before: Before, flags: int) -> PersistedEvent | None:
        """The kick or ban that an event comes after: it soft failed, or is history of the stay that was ended."""
        member, key = self._room.members.get(event.sender), (MEMBER, event.sender)
        if member is None or member.membership not in (LEAVE, BAN) or flags & REJECTED:
            return None
        ended = await self._stands(key)
        return ended if flags & SOFT_FAILED or ends(ended, before.relevant.get(key)) else None

    async def _persisted(
        self, event: Event, before: Before, flags: int, redaction: PersistedEvent | None
    ) -> PersistedEvent:
        state = {key: each.event for key, each in before.relevant.items()}
        facts = facts_in(self._room, event, state, self._related_thread(event), self._joined)
        if before.state.point != self._current.point:
            facts = facts._replace(bits=facts.bits | BRANCHED)
        return PersistedEvent(
            event,
            EventRef(event.event_id, 0, event.depth),
            room_nid=self._room.name.nid,
            sender_nid=(await self._material.users(users_of(event)))[event.sender],
            state_before=before.state.ref,
            flags=flags,
            replaced=replaced(before.relevant.get(event.key) if event.key is not None else None),
            redaction=redaction,
            facts=facts,
        )

    async def _note(self, persisted: PersistedEvent, after: After) -> None:
        """What the room's state is from here on."""
        self._current = after.state
        nids = [change.ref.nid for change in after.changes if change.ref is not None and change.ref.nid]
        loaded = await self._material.load(nids)
        for change in after.changes:
            before = await self._stands(change.key) if change.user_nid is not None else None
            self._joined -= before is not None and before.event.membership == "join"
            self._joined += change.membership == JOIN
            ref = change.ref
            self._now[change.key] = (
                None if ref is None else loaded[ref.nid] if ref.nid else self._own_or(ref, persisted)
            )

    def _own_or(self, ref: EventRef, persisted: PersistedEvent) -> PersistedEvent:
        return persisted if ref is persisted.ref else self._own[ref.event_id]

    async def _stands(self, key: StateKey) -> PersistedEvent | None:
        """What stands at a key of the room's state, with this run."""
        return (await self._standing([key])).get(key)

    async def _standing(self, keys: Collection[StateKey]) -> dict[StateKey, PersistedEvent]:
        found = {key: self._now[key] for key in keys if key in self._now}
        state = self._room.state
        loaded = await self._material.load([state[key] for key in keys if key not in found and key in state])
        return {key: each for key, each in (found | keyed(loaded.values())).items() if each is not None}

    async def _room_state(self, event: Event, prev: Sequence[PersistedEvent], before: Before) -> Known:
        """Step 6 asks for the room's current state. Where there is a gap before an event, that may have been overtaken by what is
        missing: then it is what the room's branches and the state before the event become together. So who has come meanwhile is
        heard, and who was banned does not evade it by a gap of their own making.
        """
        keys = keys_of(event)
        if len(prev) == len(set(event.prev_event_ids)):
            return await self._standing(keys)
        branches = [before.state, *await self._states_at(self._base)]
        want_numbers(branches)
        resolved = await self._material.resolve(frozenset(state.below for state in branches))
        return await self._at_keys(resolved.state, event)

    async def _at_keys(self, state: StateMap, event: Event) -> Known:
        """What of a written state the rules look at for an event."""
        numbers = await self._material.keys(keys_of(event))
        nids = [state[nid] for nid in numbers.values() if nid in state]
        return keyed((await self._material.load(nids)).values())

    def _is_known(self, event: Event, event_id: EventId) -> bool:
        """Whether a previous event is here; of an event whose state is told from outside it may be missing."""
        found = self._find(event_id)
        if found is None or found.flags & OUTLIER:
            assert event.event_id in self._material.given
            return False
        return True

    def _find(self, event_id: EventId | None) -> PersistedEvent | None:
        return (self._own.get(event_id) or self._material.by_id.get(event_id)) if event_id else None

    def _known(self, event_id: EventId) -> PersistedEvent:
        return self._own.get(event_id) or self._material.by_id[event_id]

    def _was(self, event_id: EventId) -> EventRef | None:
        outlier = self._material.outliers.get(event_id)
        return outlier.ref if outlier is not None else None

    def _related_thread(self, event: Event) -> EventId | None:
        """See `facts.thread_of_related`."""
        relation = relation_of(event)
        if relation is None or relation.rel_type == "m.thread":
            return None
        parent = self._find(relation.parent_id)
        return parent.facts.thread if parent is not None and parent.room_nid == self._room.name.nid else None

    # --- the state before it, and the rules --------------------------------------------------------------------------

    async def _before(self, event: Event, prev: Sequence[PersistedEvent]) -> Before:
        """Step 5 asks for the state before the event."""
        keys = {*keys_of(event), *([event.key] if event.key is not None else [])}
        given = event.event_id if len(prev) < len(set(event.prev_event_ids)) else None
        states = {state.point: state for state in [await self._state_after(each) for each in prev]}
        if len(states) == 1 and given is None:
            (state,) = states.values()
            return Before(state, await self._at(state, keys), None)
        if not states and given is None:
            return Before(State(StateRef(0)), {}, None)
        want_numbers(states.values())
        resolved = await self._material.resolve(
            frozenset(state.below for state in states.values()), given=given
        )
        state, new = await self._numbered(resolved)
        return Before(state, await self._at(state, keys), new)

    async def _numbered(self, resolved: Resolved) -> tuple[State, NewState | None]:
        if resolved.ref is not None:
            return State(resolved.ref, below=resolved.ref.nid), None
        new = await self._material.row(resolved.state, self._start)
        return State(StateRef(new.height, nid=new.nid), below=new.nid), new

    async def _state_after(self, persisted: PersistedEvent) -> State:
        known = self._after.get(persisted.event.event_id)
        if known is not None:
            return known
        nid = persisted.state_after_nid
        return State(await self._material.reference(nid), below=nid)

    async def _at(self, state: State, keys: Collection[StateKey]) -> dict[StateKey, PersistedEvent]:
        """What a state is at some keys."""
        found = {key: state.over[key] for key in keys if key in state.over}
        rest = [key for key in keys if key not in found]
        if state.below == self._start:
            values = self._room.state
            nids = [values[key] for key in rest if key in values]
        else:
            numbers = await self._material.keys(rest)
            below = await self._material.state(state.below)
            nids = [below[nid] for nid in numbers.values() if nid in below]
        return found | keyed((await self._material.load(nids)).values())

    # --- the room with it --------------------------------------------------------------------------------------------

    async def _room_with(
        self,
        persisted: PersistedEvent,
        auth: Sequence[PersistedEvent],
        before: State,
        own: State,
    ) -> After:
        """The room once the event is in. `before`, `own`: the states before and after it."""
        event, current = persisted.event, self._current
        self._material.hanging.pop(event.event_id, None)
        if event.event_id in self._material.missed:
            return await self._room_behind(persisted)
        passed = self._material.behind(event)
        extremities = self._forward_extremities.newest(
            self._room, (*(each for each in self._base if each.event_id not in passed), persisted.ref)
        )
        others = await self._states_at(extremities[:-1])
        if all(state.point == own.point for state in others):
            if before.point == current.point:
                changes: tuple[StateChange, ...] = ()
                if event.key is not None:
                    changes = (await self._change(persisted),)
            else:
                want_numbers((before, current))
                state = await self._material.state(before.below)
                if event.key is not None:
                    state = {**state, (await self._material.keys([event.key]))[event.key]: THIS_EVENT}
                changes = await self._changes(state, persisted)
            return After(extremities, own, changes)
        if self._hangs(event, before):
            self._material.hanging[event.event_id] = passed
            return After(self._base, current, superseded=await self._left_standing(event))
        want_numbers((before, current, *others))
        nids = frozenset(state.below for state in others)
        if event.key is None:
            resolved = await self._material.resolve(nids | {before.below})
        else:
            if any(not each.nid for each in auth):
                raise Cut
            self._ended = True
            key_nid = (await self._material.keys([event.key]))[event.key]
            state = {**await self._material.state(before.below), key_nid: THIS_EVENT}
            unwritten = UnwrittenEvent(event, [each.nid for each in auth])
            resolved = Resolved(None, await self._material.resolve_with(unwritten, state, nids, before.below))
        return await self._resolved(extremities, resolved, persisted)

    async def _room_behind(self, persisted: PersistedEvent) -> After:
        """The room with an event that events which are here have been waiting for: it is behind them."""
        passed = self._material.behind(persisted.event)
        extremities = tuple([each for each in self._base if each.event_id not in passed])
        if not extremities or len(extremities) == len(self._base):
            return After(self._base, self._current, superseded=await self._left_standing(persisted.event))
        states = await self._states_at(extremities)
        want_numbers((self._current, *states))
        resolved = await self._material.resolve(frozenset(state.below for state in states))
        return await self._resolved(extremities, resolved, persisted)

    async def _left_standing(self, event: Event) -> StateChange | None:
        """What stands at the key of a state event, which does not take its place (yet)."""
        if event.key is None:
            return None
        stands = await self._stands(event.key)
        key_nid = (await self._material.keys([event.key]))[event.key]
        return StateChange(event.key, key_nid, stands.ref if stands is not None else None)

    def _hangs(self, event: Event, before: State) -> bool:
        """Whether an event that meets other branches may wait for the next of its own, which comes in the same call: then the room
        stays as it is, and that one takes its place. Not what happens to our own users: the next must not be told before.
        """
        if event.event_id not in self._material.followed:
            return False
        if event.key is None:
            return bool(before.over)  # without a state of its own it is as cheap to resolve
        return event.type != MEMBER or domain_of(UserId(event.key[1])) != self._server_name

    async def _caught_up(
        self, prev: Sequence[PersistedEvent]
    ) -> tuple[tuple[EventRef, ...], Resolved] | None:
        """Of an event that cannot take the place of what hangs before it: the room with that. None: nothing hangs."""
        ids = {each.event.event_id for each in prev}
        waiting = [each for each in prev if each.event.event_id in self._material.hanging]
        if not waiting:
            return None
        want_numbers(await self._states_after(waiting))
        passed = ids.union(*(self._material.hanging[each.event.event_id] for each in waiting))
        extremities = (
            *(each for each in self._base if each.event_id not in passed - ids),
            *(each.ref for each in waiting if each.ref not in self._base),
        )
        extremities = self._forward_extremities.newest(self._room, extremities)
        states = [self._current, *await self._states_at(extremities)]
        want_numbers(states)
        return extremities, await self._material.resolve(frozenset(state.below for state in states[1:]))

    async def _states_after(self, events: Sequence[PersistedEvent]) -> list[State]:
        return [await self._state_after(each) for each in events]

    async def _resolved(
        self, extremities: tuple[EventRef, ...], resolved: Resolved, persisted: PersistedEvent
    ) -> After:
        """The room is what resolution made of its branches."""
        current, new = self._current, None
        if resolved.state == await self._material.state(current.below):
            state = current
        else:
            state, new = await self._numbered(resolved)
        changes = await self._changes(resolved.state, persisted) if state is not current else ()
        superseded = None
        if persisted.event.key is not None:
            key_nid = (await self._material.keys([persisted.event.key]))[persisted.event.key]
            stands = resolved.state.get(key_nid)
            if stands != THIS_EVENT:
                superseded = StateChange(persisted.event.key, key_nid, await self._reference(stands))
        return After(extremities, state, changes, new, superseded)

    async def _reference(self, nid: int | None) -> EventRef | None:
        found = (await self._material.load([nid])).get(nid) if nid else None
        return found.ref if found is not None else None

    async def _states_at(self, refs: Sequence[EventRef]) -> list[State]:
        """The states after the room's other extremities."""
        loaded = await self._material.load([ref.nid for ref in refs if ref.event_id not in self._after])
        if any(ref.event_id not in self._after and ref.nid not in loaded for ref in refs):
            raise Conflict("an event in flight has been signed anew")
        return [self._after.get(ref.event_id) or await self._state_after(loaded[ref.nid]) for ref in refs]

    async def _change(self, persisted: PersistedEvent) -> StateChange:
        """The event becomes current state."""
        event = persisted.event
        assert event.key is not None
        key_nid = (await self._material.keys([event.key]))[event.key]
        users = await self._material.users(users_of(event))
        return change_of(self._server_name, event.key, key_nid, persisted.ref, event.membership, users)

    async def _changes(self, state: StateMap, own: PersistedEvent) -> tuple[StateChange, ...]:
        """What makes the room's current state this one."""
        material = self._material
        now = await material.state(self._current.below)
        changed = dict(state.items() - now.items())
        gone = now.keys() - state.keys()
        names = await material.names([*changed, *gone])
        events = await material.load([nid for nid in changed.values() if nid != THIS_EVENT])
        users = await material.users(
            [UserId(names[key][1]) for key in (*changed, *gone) if names[key][0] == MEMBER]
        )
        found: list[StateChange] = []
        for key_nid, nid in changed.items():
            persisted = own if nid == THIS_EVENT else events[nid]
            membership = persisted.event.membership
            found.append(
                change_of(self._server_name, names[key_nid], key_nid, persisted.ref, membership, users)
            )
        return (
            *found,
            *[change_of(self._server_name, names[key_nid], key_nid, None, None, users) for key_nid in gone],
        )
