"""A room that one of ours has joined through another server becomes a room of this one: its state and auth chain in bulk, and the
join as the room's newest event.

The events are outliers first, stored some at a time, which nobody sees; then the room's state, and last, in one append, the join:
until that is written the user has not joined, and whatever was stored before is found again by the next attempt. So a process may
be killed at any moment.

spec: server-server-api/#joining-rooms (FED-20), #checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from homeserver.events import auth_rules
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import Event, StateKey
from homeserver.events.push_facts import facts_of
from homeserver.graph.entry import ADOPTS, EventEntry, StateChange
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN, MEMBERSHIPS, REJECTED, EventRef, StateRef
from homeserver.graph.resolved import NewState
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write import adopt_store as store
from homeserver.graph.write.adopt_store import StateRow
from homeserver.graph.write.auth_order import CREATE
from homeserver.graph.write.beside import MembershipsBeside, NotAway, Unfit, replaced_by
from homeserver.graph.write.outliers import NOTHING_STORED, Outliers
from homeserver.graph.write.receive import MissingEvents
from homeserver.log.entries import Append, Conflict, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import EventId, ServerName, UserId, domain_of
from homeserver.policy.passages import Passage
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

MEMBER = "m.room.member"
MAX_TRIES = 20
AT_ONCE = 500
"""Keys of the state that are put together in one turn of the event loop, and written in one transaction."""
LOOKED_AT_ONCE = 2_000
"""Events that are looked up with one query."""


class _State(NamedTuple):
    """A room's state before the join, as it is stored."""

    numbers: Mapping[int, int]
    """key_nid -> event_nid."""
    rows: Mapping[int, StateRow]
    events: Mapping[StateKey, PersistedEvent]
    """What concerns the join, and the memberships of our users."""


class _Pending(NamedTuple):
    """What of a room's current state is written with the join."""

    changed: Sequence[StateRow]
    gone: Sequence[int]
    """key_nids."""


class Adoption:
    """Takes rooms as other servers have them. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        outliers: Outliers,
        beside: MembershipsBeside,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._log = log
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._outliers = outliers
        self._beside = beside
        self._server_name = server_name

    async def adopt(
        self,
        join: Event,
        state: Sequence[Event],
        auth_chain: Sequence[Event],
        passage: Passage,
        stored: Mapping[EventId, bytes] = NOTHING_STORED,
    ) -> RoomIdentity:
        """Make the room that `join` is in one of ours. `join` names the room and its version, and was signed here.

        `state`: all of it before the join; `auth_chain`: whatever else it and the join rest on. Signatures and hashes are
        checked. `stored`: stored forms of some of them. What its auth events do not allow is left out of the state. All or
        nothing: after an exception none of ours is joined, or (a database that did not answer) all is done.
        Raises `Unfit`, `MissingEvents` (of the auth chain), `NotAway`, `Unavailable`.
        """
        await _require_fit(join, state)
        name = await self._beside.identity(join.room_id, join.room_version)
        if not (await self._rooms.latest(name.nid)).away:
            raise NotAway
        chain = {event.event_id: event for event in (*auth_chain, *state) if event.event_id != join.event_id}
        if missing := [each for each in join.auth_event_ids if each not in chain]:
            numbers = await self._events.numbers(missing)
            if len(numbers) < len(missing):
                raise MissingEvents([each for each in missing if each not in numbers])
        await self._outliers.add(name, list(chain.values()), stored)
        before = await self._stored(join, state)
        await self._require_allowed(join, before)
        for _ in range(MAX_TRIES):
            room = await self._rooms.latest(name.nid)
            if not room.away:
                raise NotAway
            pending = await self._prepare(room, before)
            try:
                await self._append(room, join, before, pending, passage)
            except Conflict:
                continue
            return name
        raise Unavailable("The room is too busy, try again")

    # --- the state ---------------------------------------------------------------------------------------------------

    async def _stored(self, join: Event, state: Sequence[Event]) -> _State:
        numbers: dict[EventId, int] = {}
        keys: dict[StateKey, int] = {}
        users: dict[UserId, int] = {}
        for some in pieces(state, LOOKED_AT_ONCE):
            await next_turn()
            numbers |= await self._events.numbers([event.event_id for event in some])
            keys |= await self._interning.key_nids([event.key for event in some if event.key is not None])
            members = [
                UserId(event.key[1]) for event in some if event.key is not None and event.type == MEMBER
            ]
            users |= await self._interning.user_nids(members)
        rejected = await self._rejected(numbers.values())
        rows: dict[int, StateRow] = {}
        for some in pieces(state, AT_ONCE):
            await next_turn()
            for event in some:
                assert event.key is not None
                if numbers[event.event_id] in rejected:
                    continue
                user = users[UserId(event.key[1])] if event.type == MEMBER else 0
                membership = MEMBERSHIPS.get(event.membership or "", 0)
                local = user != 0 and self._is_local(event.key)
                row = StateRow(keys[event.key], numbers[event.event_id], user, membership, local)
                rows[row.key_nid] = row
        wanted = {CREATE, (MEMBER, join.sender), *auth_keys_of(join)}
        chosen = [
            numbers[event.event_id]
            for event in state
            if event.key in wanted or (event.type == MEMBER and self._is_local(event.key))
        ]
        loaded = await self._events.load([nid for nid in chosen if nid not in rejected])
        events = {each.event.key: each for each in loaded.values() if each.event.key is not None}
        return _State({key: row.event_nid for key, row in rows.items()}, rows, events)

    def _is_local(self, key: StateKey | None) -> bool:
        return key is not None and domain_of(key[1]) == self._server_name

    async def _rejected(self, nids: Any) -> set[int]:
        async with self._db.read() as tx:
            return set(
                await tx.column(
                    "SELECT event_nid FROM events WHERE event_nid = ANY(%(nids)s::bigint[]) AND flags & %(flag)s <> 0",
                    nids=list(nids),
                    flag=REJECTED,
                )
            )

    async def _require_allowed(self, join: Event, state: _State) -> None:
        """The join is allowed by its auth events, and by the state before it."""
        loaded = await self._events.load((await self._events.numbers(join.auth_event_ids)).values())
        rejected = {each.event.event_id for each in loaded.values() if each.flags & REJECTED}
        auth = [each.event for each in loaded.values()]
        now = {key: persisted.event for key, persisted in state.events.items()}
        if CREATE not in now:
            raise Unfit("the state has no m.room.create that its rules allow")
        cited = {CREATE: now[CREATE], **{event.key: event for event in auth if event.key is not None}}
        try:
            auth_rules.check_auth_events(join, auth, rejected)
            auth_rules.check(join, cited, join.room_version)
            auth_rules.check(join, now, join.room_version)
        except auth_rules.Rejected as no:
            raise Unfit(f"the room does not let the user in: {no.reason} (rule {no.rule})") from no

    async def _prepare(self, room: Room, state: _State) -> _Pending:
        """What of the current state is to be changed together with the join. Where this server has never been, most is written
        now: nobody looks at it before somebody of ours is in. Our users' own memberships are part of the log entry.
        """
        async with self._db.read() as tx:
            now = await store.find_current_state(tx, room.name.nid)
        changed = [row for key, row in state.rows.items() if now.get(key) != row.event_nid and not row.local]
        ours = [(MEMBER, str(user)) for user, member in room.members.items() if member.local]
        kept = (await self._interning.find_key_nids(ours)).values()
        gone = [key for key in now.keys() - state.rows.keys() if key not in kept]
        if room.extremities:
            return _Pending(changed, gone)
        for some in pieces(changed, AT_ONCE):
            await next_turn()
            async with self._db.transaction() as tx, tx.pipeline() as batch:
                store.put_current_state(batch, room.name.nid, some)
        return _Pending([], gone)

    # --- the join ----------------------------------------------------------------------------------------------------

    async def _append(
        self, room: Room, join: Event, state: _State, pending: _Pending, passage: Passage
    ) -> None:
        async with self._db.transaction() as tx:
            state_nid = await store.next_state_number(tx)
        entry = await self._entry(room, join, state, state_nid)

        def alongside(batch: Pipeline, written: Sequence[Written[Any]]) -> None:
            position = written[0].position
            if room.name.version.id != join.room_version.id:
                store.set_version(batch, room.name.nid, join.room_version.id)
            if pending.changed or pending.gone:
                store.keep_past_memberships(batch, room.name.nid, pending.changed, pending.gone, position)
            if pending.gone:
                store.delete_current_state(batch, room.name.nid, pending.gone)
            if pending.changed:
                store.put_current_state(batch, room.name.nid, pending.changed, position)

        await self._log.add(Append([entry], None, alongside, passage))

    async def _entry(self, room: Room, join: Event, state: _State, state_nid: int) -> EventEntry:
        user_nid = await self._interning.user_nid(join.sender)
        key = (MEMBER, join.sender)
        key_nid = (await self._interning.key_nids([key]))[key]
        numbers = await self._events.numbers(join.auth_event_ids)
        ref = EventRef(join.event_id, 0, join.depth)
        before = state.events.get(key)
        joined = 1 + sum(row.membership == JOIN for row in state.rows.values() if row.user_nid != user_nid)
        persisted = PersistedEvent(
            join,
            ref,
            room_nid=room.name.nid,
            sender_nid=user_nid,
            state_before=StateRef(1, nid=state_nid),
            replaced=replaced_by(before),
            facts=facts_of(join, member_count=joined, levels=None, thread=None, mentions=()),
        )
        own = StateChange(key, key_nid, ref, user_nid, JOIN, local=True)
        return EventEntry(
            persisted=persisted,
            base=room.extremities,
            extremities=(ref,),
            room_state=StateRef(2, event=ref),
            auth=tuple(EventRef(event_id, nid, 0) for event_id, nid in numbers.items()),
            changes=(own, *await self._changes(room, join.sender, state)),
            key_nid=key_nid,
            replaces=before.ref if before is not None else None,
            new_states=(NewState(state_nid, 0, 1, state.numbers),),
            opens_gap=bool(join.prev_event_ids),
            place=ADOPTS,
        )

    async def _changes(self, room: Room, joiner: UserId, state: _State) -> list[StateChange]:
        """What becomes of the memberships of our other users."""
        should = {
            key: persisted
            for key, persisted in state.events.items()
            if key[0] == MEMBER and self._is_local(key) and key[1] != joiner
        }
        has = {
            (MEMBER, str(user)): member.event_nid
            for user, member in room.members.items()
            if member.local and user != joiner
        }
        differing = [
            key for key in {**should, **has} if has.get(key, 0) != (should[key].nid if key in should else 0)
        ]
        keys = await self._interning.key_nids(differing)
        users = await self._interning.user_nids([UserId(key[1]) for key in differing])
        found: list[StateChange] = []
        for key in differing:
            each = should.get(key)
            membership = MEMBERSHIPS.get(each.event.membership or "") if each is not None else None
            ref = each.ref if each is not None else None
            found.append(StateChange(key, keys[key], ref, users[UserId(key[1])], membership, local=True))
        return found


async def _require_fit(join: Event, state: Sequence[Event]) -> None:
    """What can be seen without looking anything up. Raises `Unfit`."""
    if join.key != (MEMBER, join.sender) or join.membership != "join":
        raise Unfit("the join is another event")
    seen: dict[StateKey, EventId] = {}
    for some in pieces(state, AT_ONCE):
        await next_turn()
        for event in some:
            _require_part(join, event, seen)
    if CREATE not in seen:
        raise Unfit("the state has no m.room.create")


def _require_part(join: Event, event: Event, seen: dict[StateKey, EventId]) -> None:
    if event.room_id != join.room_id:
        raise Unfit("the state has an event of another room")
    if event.key is None:
        raise Unfit("the state has an event that is no state event")
    if seen.setdefault(event.key, event.event_id) != event.event_id:
        raise Unfit(f"the state has two events of type {event.type} for one key")
    if event.key == CREATE and str(event.content.get("room_version", "1")) != join.room_version.id:
        raise Unfit("the room was made with another version")
