"""Writing events: plan on the head, select auth events, check the rules, hash, sign, append; again if the room has moved on.

spec: server-server-api/#auth-events-selection, client-server-api/#room-events
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from psycopg import IntegrityError

from homeserver.events import auth_rules
from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, Reference, build_event, next_depth, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.graph.entry import EventEntry, StateChange
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent, Replaced, SentBy
from homeserver.graph.refs import MEMBERSHIPS, EventRef, StateRef, flags_of
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head, NotReady, known_numbers
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.countersigning import Countersigner, Countersigning
from homeserver.graph.write.facts import facts_in
from homeserver.log.entries import Alongside, Append, Conflict, Entry, TransactionId
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import BadJson, Forbidden, Unavailable
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId, domain_of
from homeserver.matrix.signing import SigningKey
from homeserver.policy.passages import Passage
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn, pieces

MAX_PREV = 20
MAX_TRIES = 60
"""Rebuilds after conflicts, and loads, before the caller is told to come back."""
BUILT_AT_ONCE = 40
"""Events of a new room that are built without letting others go on: some milliseconds."""
CREATE: StateKey = ("m.room.create", "")
ONE_ROOM_PER_ID = {"rooms_room_id_key", "events_event_id"}
"""The constraints that two rooms made in one millisecond run into."""


class MalformedEvent(BadJson):
    """The rules of the room's version allow such an event to nobody: 400 rather than 403, which is about the sender.

    spec: client-server-api/, setRoomStateWithKey: 400 "the sender's request is malformed", 403 "doesn't have permission"
    """


@dataclass(slots=True)
class Identity:
    """Who signs. The key is replaced while the server runs (`runtime.key_change`): look at it when you sign."""

    server_name: ServerName
    key: SigningKey


class Send(NamedTuple):
    """What a plan wants written: an event, and what a redaction takes effect on."""

    draft: EventDraft
    redacts: PersistedEvent | None = None
    origin_server_ts: int | None = None
    """Unix ms; None: now."""
    related_thread: EventId | None = None
    """The thread of what the event relates to."""


EventPlan = Callable[[Head], Sequence[Send]]
"""Decides on the head what is to be written; nothing for nothing. May raise a MatrixError, or `NotReady`."""


class Replacement(NamedTuple):
    """A room that takes the place of another one."""

    create: Callable[[EventId | None], EventDraft]
    """Its first event, given the first event said in the old room; None where its id has to be known before that."""
    after_create: Sequence[EventDraft]
    in_old: Callable[[RoomId], Sequence[Send]]
    """What is said in the old room, given the id of the new one; at least one event."""


class GraphWriter:
    """The only way for local events into rooms. Builds on the heads of rooms, which it moves on before events are written."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        log: LogWriter,
        tail: Tail,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        identity: Identity,
        clock: Clock,
    ) -> None:
        self._log = log
        self._tail = tail
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._identity = identity
        self._clock = clock
        self._countersigning: Countersigning[EventPlan] | None = None
        self._last_created = 0
        """Unix ms of the newest room made here; each has one of its own."""

    def countersign_with(self, countersigner: Countersigner) -> None:
        """Who has to sign what is written to some rooms."""
        self._countersigning = Countersigning(
            countersigner, self._log, self._tail, self._rooms, (self._build, self._fetch)
        )

    async def append(
        self,
        room_nid: int,
        plan: EventPlan,
        passage: Passage,
        *,
        txn: TransactionId | None = None,
        alongside: Alongside | None = None,
    ) -> list[PersistedEvent]:
        """Write what the plan says, all or nothing, each event on top of the one before.

        `passage`: proof that it may be (`homeserver.policy`). Returns the events, committed.
        Raises `Forbidden` or `MalformedEvent` if the auth rules say no, `AlreadyDone` if `txn` was used, whatever the plan raises.
        """
        for _ in range(MAX_TRIES):
            room = await self._rooms.get(room_nid)
            if self._countersigning is not None and self._countersigning.concerns(room):
                return await self._countersigning.append(room_nid, plan, Append((), txn, alongside, passage))
            try:
                entries = self._build(room, plan, txn)
            except NotReady as need:
                await self._fetch(need)
                continue
            if not entries:
                return []
            append = Append(entries, txn, alongside, passage)
            append.may_follow = True
            append.build_again = partial(self._build_again, append, room_nid, plan)
            try:
                await self._log.add(append)
            except Conflict:
                room.give_up(_events_of(append))
                await self._tail.fresh()
                continue
            except Exception:
                room.give_up(_events_of(append))
                raise
            return [entry.persisted for entry in _events_of(append)]
        raise Unavailable("The room is too busy, try again")

    async def drafted(self, room_nid: int, plan: EventPlan) -> list[Event]:
        """What `append` would write now, signed, and not written: for events that another server has to sign as well. They are
        received then, like those of others. Raises as `append`.
        """
        for _ in range(MAX_TRIES):
            room = await self._rooms.get(room_nid)
            if not room.idle:
                await self._log.add(Append(()))
            mark = room.mark()
            try:
                return [entry.persisted.event for entry in self._build(room, plan, None)]
            except NotReady as need:
                await self._fetch(need)
            finally:
                room.back_to(mark)
        raise Unavailable("The room is too busy, try again")

    async def create(
        self,
        version: RoomVersion,
        room_id: RoomId | None,
        create: EventDraft,
        plan: EventPlan,
        passage: Passage,
        *,
        alongside: Callable[[RoomIdentity], Alongside] | None = None,
    ) -> tuple[RoomIdentity, list[PersistedEvent]]:
        """Write a new room: its create event, then what the plan says on top of it, in one append.

        `room_id` is None in versions where it follows from the create event. Raises as `append`.
        """
        room_nid = await self._interning.new_room_nid()
        now = self._new_moment()
        event = self._sign(create, version, room_id, (), (), now)
        name = RoomIdentity(room_nid, event.room_id, version)
        for _ in range(MAX_TRIES):
            try:
                room = await self._begun(name, event, plan)
            except NotReady as need:
                await self._fetch(need)
                continue
            entries = list(room.pending)
            self._rooms.add(room)
            try:
                append = Append(entries, None, alongside(name) if alongside else None, passage)
                await self._log.add(append)
            except IntegrityError as clash:
                self._rooms.forget(room_nid)
                if clash.diag.constraint_name not in ONE_ROOM_PER_ID:
                    raise
                # From version 12 on the id is a hash: what one user makes twice in a millisecond is one room.
                now += 1
                event = self._sign(create, version, room_id, (), (), now)
                name = RoomIdentity(room_nid, event.room_id, version)
                continue
            except BaseException:
                self._rooms.forget(room_nid)
                raise
            self._interning.add_room(name)
            return name, [entry.persisted for entry in entries]
        raise Unavailable("The server is too busy, try again")

    async def replace(
        self,
        old_nid: int,
        version: RoomVersion,
        room_id: RoomId | None,
        plan: Callable[[Head], Replacement],
        passage: Passage,
        *,
        alongside: Callable[[RoomIdentity], Alongside],
    ) -> RoomIdentity:
        """Write a new room and what is said about it in the room it replaces: in one append, so both or nothing.

        `passage`: of the creation. What is copied from the old room passed when it was written there.

        `room_id` as in `create`. Raises as `append`.
        """
        room_nid = await self._interning.new_room_nid()
        for _ in range(MAX_TRIES):
            old = await self._rooms.get(old_nid)
            try:
                room, entries, said = self._build_pair(old, (room_nid, version, room_id), plan)
            except NotReady as need:
                await self._fetch(need)
                continue
            self._rooms.add(room)
            try:
                await self._log.add(Append([*entries, *said], None, alongside(room.name), passage))
            except BaseException as error:
                self._rooms.forget(room_nid)
                old.give_up(said)
                again = isinstance(error, Conflict) or (
                    isinstance(error, IntegrityError) and error.diag.constraint_name in ONE_ROOM_PER_ID
                )
                if not again:
                    raise
                await self._tail.fresh()
                continue
            self._interning.add_room(room.name)
            return room.name
        raise Unavailable("The room is too busy, try again")

    async def _begun(self, name: RoomIdentity, create: Event, plan: EventPlan) -> Room:
        """A room that is not written yet, with its first events: nobody knows it, so they need not be built in one turn."""
        room, _ = self._begin(name, create, lambda _: ())
        sends = plan(Head(room, self._events))
        keys = [(each.draft.type, each.draft.state_key) for each in sends if each.draft.state_key is not None]
        known_numbers(self._interning, [UserId(key) for kind, key in keys if kind == "m.room.member"], keys)
        for some in pieces(sends, BUILT_AT_ONCE):
            if len(some) == BUILT_AT_ONCE:
                await next_turn()
            self._build(room, partial(_given, some), None)
        return room

    # --- building, without waiting ---------------------------------------------------------------------------------

    def _new_moment(self) -> int:
        """Unix ms of a room that is made now: no two of this process have the same."""
        self._last_created = max(self._clock.now_ms(), self._last_created + 1)
        return self._last_created

    def _begin(self, name: RoomIdentity, create: Event, plan: EventPlan) -> tuple[Room, list[EventEntry]]:
        """A room that is not written yet, and its first events."""
        room = Room(name, 0)
        known_numbers(self._interning, [create.sender], [CREATE])
        try:
            auth_rules.check(create, {}, name.version)
        except auth_rules.Rejected as no:
            raise _refusal(no) from no
        room.fly(self._entry(room, create, (), None, None, None))
        return room, [*room.pending, *self._build(room, plan, None)]

    def _build_pair(
        self,
        old: Room,
        new: tuple[int, RoomVersion, RoomId | None],
        plan: Callable[[Head], Replacement],
    ) -> tuple[Room, list[EventEntry], list[EventEntry]]:
        """The new room, its first events, and what is said in the old one."""
        room_nid, version, room_id = new
        mark = old.mark()
        try:
            wish = plan(Head(old, self._events))
            said: list[EventEntry] = []
            first = None
            if room_id is not None:
                chosen = room_id
                said = self._build(old, lambda _: wish.in_old(chosen), None)
                first = said[0].persisted.event.event_id
            event = self._sign(wish.create(first), version, room_id, (), (), self._new_moment())
            if room_id is None:
                said = self._build(old, lambda _: wish.in_old(event.room_id), None)
            name = RoomIdentity(room_nid, event.room_id, version)
            room, entries = self._begin(name, event, lambda _: [Send(draft) for draft in wish.after_create])
        except BaseException:
            old.back_to(mark)
            raise
        return room, entries, said

    def _build_again(self, append: Append, room_nid: int, plan: EventPlan) -> Sequence[Entry]:
        """The entries of an append that others were faster than, on the room as it is now."""
        room = self._rooms.cached(room_nid)
        if room is None:
            raise Conflict("the room is no longer in memory")
        room.give_up(_events_of(append))
        try:
            return self._build(room, plan, append.txn)
        except NotReady:
            raise Conflict("something must be loaded first") from None

    def _build(self, room: Room, plan: EventPlan, txn: TransactionId | None) -> list[EventEntry]:
        """Build all events of a plan on the room's head and let them fly; or none. Raises `Forbidden` where others go on
        without this server: what is here of the room is old.
        """
        if room.away:
            raise Forbidden("Nobody of this server is in the room")
        built: list[EventEntry] = []
        head = Head(room, self._events)
        mark = room.mark()
        try:
            for send in plan(head):
                entry = self._build_one(room, head, send, txn)
                room.fly(entry)
                built.append(entry)
        except auth_rules.Rejected as no:
            room.back_to(mark)
            raise _refusal(no) from no
        except BaseException:
            room.back_to(mark)
            raise
        return built

    def _build_one(self, room: Room, head: Head, send: Send, txn: TransactionId | None) -> EventEntry:
        draft, version = send.draft, room.name.version
        users, keys = [draft.sender], []
        if draft.state_key is not None:
            keys.append((draft.type, draft.state_key))
            if draft.type == "m.room.member":
                users.append(UserId(draft.state_key))
        known_numbers(self._interning, users, keys)
        wanted = auth_keys_for(draft.type, draft.state_key, draft.sender, draft.content, version)
        found = head.persisted_state({*wanted, CREATE, *keys})
        state = {key: persisted.event for key, persisted in found.items()}
        auth = [state[key] for key in wanted if key in state]
        now = send.origin_server_ts if send.origin_server_ts is not None else self._clock.now_ms()
        event = self._sign(draft, version, room.name.room_id, _newest(room.head_extremities), auth, now)
        auth_rules.check(event, state, version)
        before = found.get(keys[0]) if keys else None
        sent_by = SentBy(txn.user_nid, txn.device_id, txn.txn_id) if txn else None
        entry = self._entry(
            room,
            event,
            tuple([found[key].ref for key in wanted if key in found]),
            before,
            send.redacts,
            sent_by,
        )
        entry.persisted.facts = facts_in(room, event, state, send.related_thread)
        return entry

    def _sign(  # noqa: PLR0917  # one value each, called in one place
        self,
        draft: EventDraft,
        version: RoomVersion,
        room_id: RoomId | None,
        prev: Sequence[EventRef],
        auth: Sequence[Event],
        now: int,
    ) -> Event:
        return build_event(
            draft,
            room_id=room_id,
            room_version=version,
            prev=self._links(prev, version),
            auth=[event.event_id if version.hash_ids else reference_to(event) for event in auth],
            depth=next_depth((ref.depth for ref in prev), version),
            origin_server_ts=now,
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )

    def _links(self, refs: Sequence[EventRef], version: RoomVersion) -> list[Reference]:
        if version.hash_ids:
            return [ref.event_id for ref in refs]
        # Versions 1 and 2 name events with their hashes, so the events themselves must be at hand.
        missing = [ref.nid for ref in refs if ref.event is None and self._events.get(ref.nid) is None]
        if missing:
            raise NotReady(events=missing)
        return [reference_to(ref.event or self._events.get(ref.nid).event) for ref in refs]  # type: ignore[union-attr]  # loaded

    def _entry(  # noqa: PLR0917  # one value each, called in one place
        self,
        room: Room,
        event: Event,
        auth: tuple[EventRef, ...],
        before: PersistedEvent | None,
        redacts: PersistedEvent | None,
        sent_by: SentBy | None,
    ) -> EventEntry:
        base, state = room.head_extremities, room.head_state
        prev = _newest(base)
        ref = EventRef(event.event_id, 0, event.depth, None if room.name.version.hash_ids else event)
        sender_nid = self._interning.known_user_nid(event.sender)
        assert sender_nid is not None
        persisted = PersistedEvent(
            event,
            ref,
            room_nid=room.name.nid,
            sender_nid=sender_nid,
            state_before=state,
            flags=flags_of(event),
            replaced=_replaced(before),
            sent_by=sent_by,
        )
        changes = self._changes(event, ref)
        return EventEntry(
            persisted=persisted,
            base=base,
            extremities=(*(each for each in base if each not in prev), ref),
            room_state=StateRef(state.height + 1, event=ref) if changes else state,
            prev=prev,
            auth=auth,
            changes=changes,
            key_nid=changes[0].key_nid if changes else None,
            replaces=before.ref if before else None,
            redacts=redacts,
        )

    def _changes(self, event: Event, ref: EventRef) -> tuple[StateChange, ...]:
        if event.key is None:
            return ()
        key_nid = self._interning.known_key_nid(event.key)
        assert key_nid is not None
        if event.type != "m.room.member":
            return (StateChange(event.key, key_nid, ref),)
        user_id = UserId(event.key[1])
        user_nid = self._interning.known_user_nid(user_id)
        local = domain_of(user_id) == self._identity.server_name
        return (
            StateChange(event.key, key_nid, ref, user_nid, MEMBERSHIPS.get(event.membership or ""), local),
        )

    async def _fetch(self, need: NotReady) -> None:
        if need.events:
            await self._events.load(need.events)
        if need.users:
            await self._interning.user_nids(need.users)
        if need.keys:
            await self._interning.key_nids(need.keys)


def _given(sends: Sequence[Send], _: Head) -> Sequence[Send]:
    """An `EventPlan`, but for its first parameter: these, whatever the head is."""
    return sends


def _refusal(no: auth_rules.Rejected) -> Forbidden | MalformedEvent:
    error = f"{no.reason} (rule {no.rule})"
    return MalformedEvent(error) if isinstance(no, auth_rules.Malformed) else Forbidden(error)


def _events_of(append: Append) -> list[EventEntry]:
    return [entry for entry in append.entries if isinstance(entry, EventEntry)]


def _newest(extremities: tuple[EventRef, ...]) -> tuple[EventRef, ...]:
    """What a new event points at: all extremities, at most 20. spec: data pdu_v*.yaml (EVT-03)"""
    return extremities if len(extremities) <= MAX_PREV else extremities[-MAX_PREV:]


def _replaced(before: PersistedEvent | None) -> Replaced | None:
    if before is None:
        return None
    event = before.event
    return Replaced(before.ref, event.event_id, event.sender, event.content_json)
