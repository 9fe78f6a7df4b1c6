"""Which events a user may see, and what the user was in the room then: the state before each event, in few queries.

spec: client-server-api/#room-history-visibility (HV-01 to HV-04); the table itself is `events/visibility.py`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from homeserver.events.event import StateKey
from homeserver.events.push_facts import BRANCHED
from homeserver.events.redaction import redact_event
from homeserver.events.visibility import (
    SHARED,
    WORLD_READABLE,
    Stage,
    history_visibility_of,
    is_visible,
    stages,
)
from homeserver.graph.entry import ADOPTS, BackfillEntry, EventEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import HIDDEN, JOIN, MEMBERSHIPS, OUTLIER
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix.ids import UserId
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")
NEVER: Position = 2**62
OPEN = (WORLD_READABLE, SHARED)
MANY_CHANGES = 200
"""Of a room whose visibility was set as often as that, each event is looked at."""
SHARE = 0.5
ENTRY_BYTES = 300
"""What is remembered of one room, or of one moment, takes."""


class Viewer(NamedTuple):
    """Who looks."""

    user_id: UserId
    user_nid: int


class Visible(NamedTuple):
    """An event the viewer may see."""

    persisted: PersistedEvent
    membership: int | None
    """The viewer's at the event: JOIN … BAN, 0 for none (unsigned.membership); None if nobody has looked."""
    previous: bool = False
    """Whether the viewer may also see the state event that it replaced (unsigned.prev_content)."""


class Erasures(Protocol):
    """Fulfilled by accounts."""

    async def users(self) -> AbstractSet[int]:
        """user_nids of those whose events are stripped for who was not in the room with them (AUTH-29)."""
        ...


class VisibilityFilter:
    """Tells which of some events a viewer may see, in few queries. Owns the memory of what never changes about a state."""

    def __init__(
        self,
        db: Database,
        interning: Interning,
        events: EventCache,
        states: StateStore,
        memory: MemoryBudget,
    ) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._states = states
        self._erasures: Erasures | None = None
        self._stages: Cache[tuple[int, int], Stage] = memory.cache("visibility", SHARE)
        """(user_nid, state_nid) -> the moment."""
        self._open: Cache[int, bool] = memory.cache("open_rooms", SHARE)
        """room_nid -> whether every visibility it has ever had was open, on whatever branch."""
        self._version = 0
        """Counts what may have changed that: what was read before is not remembered."""

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {
            EventEntry: Narrowed(self._applied, touches_state),
            BackfillEntry: self._older_applied,
        }

    def reset(self) -> None:
        self._version += 1
        self._open.clear()

    def _applied(self, _: Position, entry: EventEntry) -> None:
        # Also one that does not become current state: on its branch it held.
        if entry.persisted.event.key == HISTORY_VISIBILITY or entry.place == ADOPTS:
            self._version += 1
            self._open.pop(entry.persisted.room_nid)

    def _older_applied(self, _: Position, entry: BackfillEntry) -> None:
        self._version += 1
        self._open.pop(entry.room_nid)

    def erase_with(self, erasures: Erasures) -> None:
        """Plug in who knows the erased users."""
        self._erasures = erasures

    async def erased(self) -> AbstractSet[int]:
        """user_nids of the erased users."""
        return await self._erasures.users() if self._erasures else frozenset()

    async def one(self, viewer: Viewer, room: Room, persisted: PersistedEvent) -> Visible | None:
        """None if the viewer may not see the event."""
        found = await self.many(viewer, {room: [persisted]})
        return found[room][0] if found[room] else None

    async def many(
        self, viewer: Viewer, pages: Mapping[Room, Sequence[PersistedEvent]]
    ) -> dict[Room, list[Visible]]:
        """Those events of each room that the viewer may see, order kept. At most five queries for all rooms together."""
        unsure: set[int] = set()
        earlier: set[int] = set()
        # Rooms move on while something is awaited: what they are to the viewer is looked at once.
        contexts: list[tuple[_ViewerContext, list[PersistedEvent]]] = []
        for room, page in pages.items():
            context = _ViewerContext(viewer, room)
            shown = [s for s in page if not s.flags & HIDDEN or is_own_beside(s, viewer)]
            plain = context.plain
            contexts.append((context, shown))
            unsure.update([s.state_before.nid for s in shown if not is_plain(s, plain)])
            earlier.update(
                [s.replaced.ref.nid for s in shown if s.replaced and not _shows_replaced(s, plain)]
            )
        befores = await self._events.load(earlier) if earlier else {}
        unsure.update(persisted.state_before.nid for persisted in befores.values())
        at = await self._moments(viewer, unsure) if unsure else {}
        last_joins = await self._last_joins(viewer, pages)
        erased = await self.erased()
        result: dict[Room, list[Visible]] = {}
        for context, shown in contexts:
            context.know(at, last_joins.get(context.room.name.nid, 0))
            seen = result[context.room] = []
            for persisted in shown:
                if persisted.flags & OUTLIER:
                    own = MEMBERSHIPS.get(persisted.event.membership or "", 0)
                    seen.append(Visible(persisted, own, previous=True))
                    continue
                membership = context.membership(persisted)
                if membership is None:
                    continue
                if membership != JOIN and persisted.sender_nid in erased:
                    seen.append(Visible(stripped(persisted), membership))
                elif persisted.replaced is None:
                    seen.append(Visible(persisted, membership))
                else:
                    seen.append(
                        Visible(persisted, membership, context.sees_replaced(persisted, befores, erased))
                    )
        return result

    async def sees_all(self, viewer: Viewer, room: Room) -> bool:
        """Whether the viewer sees all of the room, because they are in and it was never anything but open to who joins.

        One query per room and change of its visibility.
        """
        if room.membership(viewer.user_id) != JOIN:
            return False
        known = self._open.get(room.name.nid)
        if known is None:
            version = self._version
            nids = await self._changes_of_visibility(room)
            events = (await self._events.load(nids)).values() if len(nids) < MANY_CHANGES else ()
            known = len(nids) < MANY_CHANGES and all(
                history_visibility_of(persisted.event) in OPEN for persisted in events
            )
            if version == self._version:
                self._open.put(room.name.nid, known, ENTRY_BYTES)
        return known

    async def _changes_of_visibility(self, room: Room) -> list[int]:
        numbers = await self._interning.find_key_nids([HISTORY_VISIBILITY])
        async with self._db.read() as tx:
            return await tx.column(
                """
                SELECT event_nid FROM events WHERE room_nid = %(room)s AND key_nid = ANY(%(keys)s::int[])
                LIMIT %(limit)s
                """,
                room=room.name.nid,
                keys=list(numbers.values()),
                limit=MANY_CHANGES,
            )

    async def _moments(self, viewer: Viewer, state_nids: set[int]) -> dict[int, Stage]:
        """Visibility and the viewer's membership in each of these states: it never changes, and pages share states."""
        found = {nid: stage for nid in state_nids if (stage := self._stages.get((viewer.user_nid, nid)))}
        missing = state_nids.difference(found)
        if not missing:
            return found
        member_key: StateKey = ("m.room.member", viewer.user_id)
        keys = await self._interning.find_key_nids([HISTORY_VISIBILITY, member_key])
        values = await self._states.values(missing, list(keys.values()))
        events = await self._events.load({nid for state in values.values() for nid in state.values()})
        for state_nid, state in values.items():
            visibility = events.get(state.get(keys.get(HISTORY_VISIBILITY, 0), 0))
            member = events.get(state.get(keys.get(member_key, 0), 0))
            name = (member.event.membership if member else None) or "leave"
            stage = Stage(history_visibility_of(visibility.event if visibility else None), name)
            found[state_nid] = stage
            self._stages.put((viewer.user_nid, state_nid), stage, ENTRY_BYTES)
        return found

    async def _last_joins(
        self, viewer: Viewer, pages: Mapping[Room, Sequence[PersistedEvent]]
    ) -> dict[int, int]:
        """Where the viewer is not joined now: position of the last join."""
        left = [room.name.nid for room in pages if room.membership(viewer.user_id) not in (JOIN, 0)]
        if not left:
            return {}
        async with self._db.read() as tx:
            rows = await tx.all(
                """
                SELECT room_nid, max(event_nid) FROM memberships
                WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) AND membership = 1 GROUP BY room_nid
                """,
                user=viewer.user_nid,
                rooms=left,
            )
        return dict(rows)


class _ViewerContext:
    """A viewer looks at one room."""

    __slots__ = ("_at", "_joined", "_last_join", "_messages", "_viewer", "plain", "room")

    def __init__(self, viewer: Viewer, room: Room) -> None:
        self.room = room
        self.plain = plain_after(room, viewer)
        """Events after this are seen, whatever else is known."""
        self._viewer = viewer
        self._joined = room.membership(viewer.user_id) == JOIN
        self._at: Mapping[int, Stage] = {}
        self._last_join: Position = 0
        self._messages: dict[int, int | None] = {}
        """state_nid -> `membership` of messages, for who is joined: it is the same for all of them."""

    def know(self, at: Mapping[int, Stage], last_join: Position) -> None:
        """`at`: state_nid -> the moment, for every event that is not plain."""
        self._at, self._last_join = at, last_join

    def membership(self, persisted: PersistedEvent) -> int | None:
        """The viewer's at an event that is not hidden; None if they may not see it."""
        if is_plain(persisted, self.plain):
            return JOIN
        if persisted.sticky_until and self._joined:  # spec: MSC4354: whatever the history visibility
            return MEMBERSHIPS.get(self._at[persisted.state_before.nid].membership, 0)
        if not self._joined or persisted.event.state_key is not None:
            return self._membership(persisted)
        state_nid = persisted.state_before.nid
        if state_nid not in self._messages:
            self._messages[state_nid] = self._membership(persisted)
        return self._messages[state_nid]

    def _membership(self, persisted: PersistedEvent) -> int | None:
        at_event = stages(persisted.event, self._at[persisted.state_before.nid], self._viewer.user_id)
        if not is_visible(*at_event, joined_later=self._joined or self._last_join > persisted.nid):
            return None
        return MEMBERSHIPS.get(at_event.after.membership, 0)

    def sees_replaced(
        self, persisted: PersistedEvent, befores: Mapping[int, PersistedEvent], erased: AbstractSet[int]
    ) -> bool:
        """Whether the viewer may see what the event replaced."""
        if persisted.replaced is None:
            return False
        if _shows_replaced(persisted, self.plain):
            return True
        before = befores.get(persisted.replaced.ref.nid)
        if before is not None and is_own_beside(before, self._viewer):
            return True  # the invite that a join from here accepts
        if before is None or before.hidden:
            return False
        membership = self.membership(before)
        return membership == JOIN if before.sender_nid in erased else membership is not None


def is_own_beside(persisted: PersistedEvent, viewer: Viewer) -> bool:
    """Whether an outlier is the viewer's own membership in a room that this server was not in then."""
    return persisted.flags & HIDDEN == OUTLIER and persisted.event.key == ("m.room.member", viewer.user_id)


def _shows_replaced(persisted: PersistedEvent, plain: Position) -> bool:
    """Whether what an event replaced is seen for sure: it came after the viewer, and both came on the room's state."""
    assert persisted.replaced is not None
    return persisted.replaced.ref.nid > plain and not persisted.facts.bits & BRANCHED


def stripped(persisted: PersistedEvent) -> PersistedEvent:
    """A copy as a redaction would leave it, with nothing of what it replaced."""
    return PersistedEvent(
        redact_event(persisted.event),
        persisted.ref,
        room_nid=persisted.room_nid,
        sender_nid=persisted.sender_nid,
        state_before=persisted.state_before,
        flags=persisted.flags,
        redaction=persisted.redaction,
    )


def plain_after(room: Room, viewer: Viewer) -> Position:
    """Since when the viewer is joined. Events after this that came on the room's state (`is_plain`) are seen whatever the
    visibility.
    """
    member = room.members.get(viewer.user_id)
    return NEVER if member is None or member.membership != JOIN else max(0, member.since)


def is_plain(persisted: PersistedEvent, plain: Position) -> bool:
    """Whether the viewer was joined in the state before the event: since `plain_after` they are in the room's state, and that
    was the state before it, unless it came late.
    """
    return persisted.ref.nid > plain and not persisted.facts.bits & BRANCHED


def as_state(plain: Position, viewer: Viewer, persisted: PersistedEvent) -> Visible:
    """A state event shown as a part of the room's state; `plain`: as `plain_after` says.

    What the viewer was then, and what it replaced, is told where nobody has to search for it: a whole state has too many events
    for that, and neither is promised. What one's own membership replaced is one's own, too: clients tell "declined" from "left"
    by it.
    """
    own = persisted.event.key == ("m.room.member", viewer.user_id)
    previous = persisted.replaced is not None and (own or _shows_replaced(persisted, plain))
    return Visible(persisted, JOIN if is_plain(persisted, plain) else None, previous)
