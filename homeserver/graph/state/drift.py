"""Looks whether what is kept about rooms is still what their events say: recomputes a sample and tells what differs.

What is kept beside events (current state, memberships, shortcuts of states) is written in the same transaction, so nothing
should ever differ. Disks, restores and mistakes happen. Reads only; each room is read in one snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from homeserver.events import auth_rules
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import Event, StateKey
from homeserver.events.hashing import content_hash, event_id_of
from homeserver.events.redaction import redact_event
from homeserver.events.room_version import RoomVersion
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import MEMBERSHIPS, OUTLIER, STATELESS
from homeserver.graph.state.resolver import StateResolver
from homeserver.graph.state.rows import BrokenState, StateMap, max_hops, read_chain, read_heights, read_state
from homeserver.graph.state.states import StateStore, difference
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

ROOMS, SECONDS = 100, 20.0
"""How much is looked at unless told otherwise."""
EVENTS, MEMBERS, SHORTCUTS = 20, 500, 10
"""Of each room."""
MAX_TOLD = 5
"""Things of one kind told of one room."""
CACHED_BYTES = 128 << 20
CREATE: StateKey = ("m.room.create", "")


class Drift(NamedTuple):
    """Something that differs."""

    room_id: RoomId
    sentence: str
    grave: bool = True
    """False: slow, but right; the server mends it."""


class Examined(NamedTuple):
    """What was looked at."""

    rooms: int
    of: int
    drift: list[Drift]


class _Kept(NamedTuple):
    """A room as it is kept."""

    nid: int
    room_id: RoomId
    state_nid: int
    height: int
    extremities: list[int]


class _Ends(NamedTuple):
    """The states after a room's extremities."""

    version: RoomVersion
    states: list[StateMap]


class DriftCheck:
    """Built for one examination."""

    def __init__(self, db: Database, server_name: ServerName, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._server_name = server_name
        self._clock = clock
        self._entropy = entropy
        memory = MemoryBudget(CACHED_BYTES)
        self._interning = Interning(db, memory)
        self._events = EventCache(db, self._interning, memory)
        self._resolver = StateResolver(db, self._events, StateStore(db, memory), self._interning)

    async def examine(self, rooms: int = ROOMS, seconds: float = SECONDS) -> Examined:
        """Look at a sample of rooms, the largest among them, for as long as there is time; one room at least."""
        until = self._clock.monotonic() + seconds
        chosen, count = await self._choose(rooms)
        found: list[Drift] = []
        looked = 0
        for nid in chosen:
            if looked and self._clock.monotonic() > until:
                break
            looked += 1
            async for drift in self.room(nid):
                found.append(drift)  # noqa: PERF401  # an async comprehension would hide what takes long
        return Examined(looked, count, found)

    async def room(self, room_nid: int) -> AsyncIterator[Drift]:
        """What differs in one room."""
        async with self._db.snapshot() as tx:
            row = await tx.one(
                """
                SELECT room_nid, room_id, state_nid, state_height, extremities FROM rooms
                WHERE room_nid = %(nid)s
                """,
                nid=room_nid,
            )
            if row is None:
                return
            kept = _Kept(*row)
            if not await _is_ours(tx, room_nid, self._server_name):
                return  # others go on without us: memberships of ours come by themselves
            try:
                state = await read_state(tx, kept.state_nid) if kept.state_nid else {}
            except BrokenState as broken:
                yield Drift(kept.room_id, f"its state cannot be read: {broken}")
                return
            for check in (
                self._forward_extremities,
                self._current_state,
                self._members,
                self._chain,
                self._past,
            ):
                async for sentence, grave in check(tx, kept, state):
                    yield Drift(kept.room_id, sentence, grave)
            ends = await self._ends(tx, kept)
        async for sentence, grave in self._resolved(ends, state):
            yield Drift(kept.room_id, sentence, grave)

    async def _choose(self, count: int) -> tuple[list[int], int]:
        """The largest rooms, then others by lot; and how many there are."""
        async with self._db.read() as tx:
            largest = await tx.column(
                "SELECT room_nid FROM rooms ORDER BY state_height DESC, room_nid LIMIT %(count)s",
                count=max(1, count // 5),
            )
            drawn = await tx.column(
                """
                SELECT room_nid FROM rooms ORDER BY hashint8extended(room_nid, %(seed)s::bigint)
                LIMIT %(count)s
                """,
                seed=self._entropy.below(2**62),
                count=count,
            )
            total = int(await tx.value("SELECT count(*) FROM rooms"))
        return list(dict.fromkeys([*largest, *drawn]))[:count], total

    # --- the room's head -------------------------------------------------------------------------------------------

    async def _forward_extremities(self, tx: Tx, kept: _Kept, _: StateMap) -> AsyncIterator[tuple[str, bool]]:
        """The extremities are the ends of the graph."""
        loaded = await self._events.load_in(tx, kept.extremities)
        missing = [nid for nid in kept.extremities if nid not in loaded]
        if missing or not loaded:
            yield f"its newest events {missing} are not here", True
            return
        last = await tx.value(
            "SELECT max(event_nid) FROM events WHERE room_nid = %(room)s AND flags = 0", room=kept.nid
        )
        if last not in loaded:
            yield f"event {await self._name(tx, last)} is its newest, but nothing would be built on it", True
        cited = {event_id for each in loaded.values() for event_id in each.event.prev_event_ids}
        for each in loaded.values():
            if each.event.event_id in cited:
                yield f"event {each.event.event_id} counts as newest, but another one follows it", True

    async def _ends(self, tx: Tx, kept: _Kept) -> _Ends | None:
        """The states after the extremities; None if not all are here."""
        loaded = list((await self._events.load_in(tx, kept.extremities)).values())
        if len(loaded) < len(kept.extremities):
            return None
        states = [await read_state(tx, nid) for nid in {each.state_after_nid for each in loaded} if nid]
        return _Ends(loaded[0].event.room_version, states) if states else None

    async def _resolved(self, ends: _Ends | None, state: StateMap) -> AsyncIterator[tuple[str, bool]]:
        """What these states become is the room's state. Without a connection: resolution loads what it needs."""
        if ends is None:
            return
        right = await self._resolver.resolve(ends.version, ends.states)
        if right != state:
            async with self._db.read() as tx:
                async for told in self._differences(tx, right, state, "its state", "its newest events"):
                    yield told

    async def _current_state(self, tx: Tx, kept: _Kept, state: StateMap) -> AsyncIterator[tuple[str, bool]]:
        rows = await tx.all(
            "SELECT key_nid, event_nid FROM current_state WHERE room_nid = %(room)s", room=kept.nid
        )
        async for told in self._differences(tx, state, dict(rows), "current state", "its events"):
            yield told

    async def _differences(
        self, tx: Tx, right: StateMap, kept: StateMap, what: str, source: str
    ) -> AsyncIterator[tuple[str, bool]]:
        differing = difference(right, kept)
        keys = await self._keys(tx, list(differing)[:MAX_TOLD])
        for nid, key in keys.items():
            should, has = [await self._name(tx, each) for each in differing[nid]]
            yield f"{what} has {has} at {key}, {source} would have {should}", True
        if len(differing) > MAX_TOLD:
            yield f"{what} differs at {len(differing) - MAX_TOLD} more keys", True

    # --- members ---------------------------------------------------------------------------------------------------

    async def _members(self, tx: Tx, kept: _Kept, _: StateMap) -> AsyncIterator[tuple[str, bool]]:
        """Whose each membership is and what it says; and what was noted of it for users of this server."""
        rows = await find_newest_members(tx, kept.nid)
        events = await self._events.load_in(tx, [row[0] for row in rows])
        told = 0
        for nid, membership, user_id, state_key, noted in rows:
            persisted = events.get(nid)
            says = MEMBERSHIPS.get(persisted.event.membership or "") if persisted else None
            wrong = user_id != state_key or membership != says
            local = state_key.endswith(f":{self._server_name}")
            if wrong or (local and noted != membership):
                what = "current state" if wrong else "the record of memberships"
                yield f"{what} is wrong about the membership of {state_key}", True
                told += 1
            if told == MAX_TOLD:
                return

    # --- states ----------------------------------------------------------------------------------------------------

    async def _chain(self, tx: Tx, kept: _Kept, _: StateMap) -> AsyncIterator[tuple[str, bool]]:
        """The state's height and hops are as they shall be; shortcuts mean what they cut short."""
        if not kept.state_nid:
            return
        height = (await read_heights(tx, [kept.state_nid]))[kept.state_nid]
        if height != kept.height:
            yield f"its state is {height} changes long, not {kept.height}", True
        chain = await read_chain(tx, kept.state_nid, height)
        if len(chain) > max_hops(height) + 1:
            yield f"its state is read in {len(chain)} hops instead of {max_hops(height)}", False
        told = 0
        for row in [link for link in chain if link.nid > 0 and not link.derived][:SHORTCUTS]:
            event = (await self._events.load_in(tx, [row.nid])).get(row.nid)
            if event is None or event.flags & STATELESS or event.event.key is None:
                yield f"state {row.nid} stands for no state event", True
                continue
            before = await read_state(tx, event.state_before.nid) if event.state_before.nid else {}
            key = (await self._interning.find_key_nids_in(tx, [event.event.key]))[event.event.key]
            if await read_state(tx, row.nid) != {**before, key: row.nid} and told < MAX_TOLD:
                yield f"the shortcut of state {row.nid} leads to another state", True
                told += 1

    async def _past(self, tx: Tx, kept: _Kept, _: StateMap) -> AsyncIterator[tuple[str, bool]]:
        """Of some events in a row: the state before each is the state after the one before, and allowed it."""
        bounds = await tx.one(
            "SELECT min(event_nid), max(event_nid) FROM events WHERE room_nid = %(room)s AND flags = 0",
            room=kept.nid,
        )
        if bounds is None or bounds[0] is None:
            return
        nids = await tx.column(
            """
            SELECT event_nid FROM events WHERE room_nid = %(room)s AND flags = 0 AND event_nid >= %(start)s
            ORDER BY event_nid LIMIT %(limit)s
            """,
            room=kept.nid,
            start=bounds[0] + self._entropy.below(max(1, bounds[1] - bounds[0] + 2 - EVENTS)),
            limit=EVENTS,
        )
        for persisted in (await self._events.load_in(tx, nids)).values():
            try:
                sentence = await self._wrong_with(tx, persisted)
            except BrokenState as broken:
                sentence = f"the state before event {persisted.event.event_id} cannot be read: {broken}"
            if sentence:
                yield sentence, True

    async def _wrong_with(self, tx: Tx, persisted: PersistedEvent) -> str | None:
        event = persisted.event
        if persisted.redaction is None and not _is_whole(event):
            return f"what is stored of event {event.event_id} is not what it was sent with"
        before = await read_state(tx, persisted.state_before.nid) if persisted.state_before.nid else {}
        if len(event.prev_event_ids) == 1:
            numbers = await self._numbers(tx, event.prev_event_ids)
            loaded = await self._events.load_in(tx, numbers)
            for prev in loaded.values():
                if prev.flags & OUTLIER:
                    continue  # the state after it is not known
                after = await read_state(tx, prev.state_after_nid) if prev.state_after_nid else {}
                if after != before:
                    return f"the state before event {event.event_id} is not the state after the one before it"
        keys = await self._interning.find_key_nids_in(tx, [*auth_keys_of(event), CREATE])
        cited = await self._events.load_in(tx, [before[nid] for nid in keys.values() if nid in before])
        relevant = {each.event.key: each.event for each in cited.values() if each.event.key is not None}
        try:
            auth_rules.check(event, relevant, event.room_version)
        except auth_rules.Rejected as no:
            if persisted.redaction is None:
                return (
                    f"event {event.event_id} was accepted, but is not allowed: {no.reason} (rule {no.rule})"
                )
        return None

    # --- names -----------------------------------------------------------------------------------------------------

    async def _numbers(self, tx: Tx, event_ids: Sequence[str]) -> list[int]:
        return await tx.column(
            "SELECT event_nid FROM events WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL",
            ids=list(event_ids),
        )

    async def _name(self, tx: Tx, nid: int) -> str:
        found = await tx.value("SELECT event_id FROM events WHERE event_nid = %(nid)s", nid=nid)
        return found or (f"event {nid}, which is not here," if nid else "nothing")

    async def _keys(self, tx: Tx, nids: Iterable[int]) -> dict[int, str]:
        rows = await tx.all(
            "SELECT key_nid, type, state_key FROM event_keys WHERE key_nid = ANY(%(nids)s::int[])",
            nids=list(nids),
        )
        names = {nid: f"{kind} {state_key!r}" for nid, kind, state_key in rows}
        return {nid: names.get(nid, f"key {nid}, which has no name") for nid in nids}


async def _is_ours(tx: Tx, room_nid: int, server_name: ServerName) -> bool:
    """Whether the room's state is kept: it has one, and not only users of other servers are in it."""
    return bool(
        await tx.value(
            """
            SELECT cardinality(extremities) > 0 AND coalesce((
                SELECT bool_or(right(u.user_id, length(%(suffix)s)) = %(suffix)s)
                FROM current_state c JOIN users u USING (user_nid)
                WHERE c.room_nid = r.room_nid AND c.membership = 1), true)
            FROM rooms r WHERE room_nid = %(room)s
            """,
            room=room_nid,
            suffix=f":{server_name}",
        )
    )


def _is_whole(event: Event) -> bool:
    """Whether id and hash are those of the stored JSON. What came with a wrong hash is stored in its redacted form."""
    if event_id_of(event.fields, event.room_version) != event.event_id:
        return False
    hashes: object = event.fields.get("hashes")
    told = hashes.get("sha256") if isinstance(hashes, Mapping) else None
    return told == content_hash(event.fields) or redact_event(event).pdu == event.pdu


async def find_newest_members(
    tx: Tx, room_nid: int
) -> list[tuple[int, int | None, str | None, str, int | None]]:
    """(event_nid, membership, user_id, state key, membership that was noted last) of the newest memberships of a room."""
    return await tx.all(
        """
        WITH newest AS MATERIALIZED (
            SELECT c.event_nid, c.membership, c.user_nid, k.state_key
            FROM current_state c JOIN event_keys k USING (key_nid)
            WHERE c.room_nid = %(room)s AND k.type = 'm.room.member' ORDER BY c.event_nid DESC LIMIT %(limit)s
        )
        SELECT n.event_nid, n.membership, u.user_id, n.state_key, m.membership
        FROM newest n LEFT JOIN users u USING (user_nid)
        LEFT JOIN LATERAL (SELECT h.membership FROM memberships h
                           WHERE h.user_nid = n.user_nid AND h.room_nid = %(room)s
                           ORDER BY h.event_nid DESC LIMIT 1) m ON true
        ORDER BY n.event_nid DESC
        """,
        room=room_nid,
        limit=MEMBERS,
    )
