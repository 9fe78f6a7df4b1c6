"""Selects what rooms tell a viewer between two positions: timelines, state, summaries.

spec: client-server-api/#syncing (SYNC-01 to SYNC-10, SYNC-13 to SYNC-16)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible, as_state, plain_after
from homeserver.graph.refs import OUTLIER
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import UserId
from homeserver.runtime.turns import Steps, next_turn, pieces
from homeserver.sync.selection.classify import Classified, Classifier, ends_stay, is_whole
from homeserver.sync.selection.groups import groups
from homeserver.sync.selection.resolution_changes import ResolutionChangeReader, ResolutionChanges
from homeserver.sync.selection.state import StateNids, StateReader, unseen_state
from homeserver.sync.selection.summary import HEROES, changes_summary, heroes_of, naming_events
from homeserver.sync.selection.timeline import Timeline, Timelines, begun_later, limited_if_new
from homeserver.sync.selection.update import RoomUpdate
from homeserver.sync.types import SyncRequest

MEMBER = "m.room.member"
STEPS = 1_000
"""State events that are looked at in one turn."""
Given = AbstractSet[tuple[int, int]]
"""(room_nid, event_nid of a member event) that a client which loads members lazily has been given."""


class StateChoice(Protocol):
    """Which state of each room is wanted, beyond what a filter can say."""

    def lazy(self, room_nid: int) -> bool:
        """Whether members of this room are loaded lazily."""
        ...

    def choose(
        self, room_nid: int, state: Mapping[StateKey, int], people: Collection[str] | None
    ) -> StateNids:
        """What of a room's state, or of changes to it, is wanted. `people`: whose member events a client needs that loads
        members lazily; None: all of whom there are any.
        """
        ...


class Candidates(NamedTuple):
    """Rooms that may have news, before anybody has looked at what of it is for the viewer."""

    kinds: Classified
    timelines: Mapping[int, Timeline]
    resets: ResolutionChanges
    rooms: Mapping[int, Room]
    """All that are in `kinds.new`, `kinds.left`, `timelines` or `resets`; with `full_state` all that are joined."""


@dataclass(slots=True)
class _Work:
    """One request's material."""

    request: SyncRequest
    kinds: Classified
    timelines: dict[int, Timeline]
    rooms: Mapping[int, Room]
    given: Given
    resets: ResolutionChanges
    choice: StateChoice | None
    visible: dict[Room, Sequence[Visible]] = field(default_factory=dict)
    state: dict[int, list[int]] = field(default_factory=dict)
    """room_nid -> state events to be told."""
    heroes: dict[int, list[UserId]] = field(default_factory=dict)
    """Rooms whose summary is told."""
    bundles: Mapping[int, bytes] = field(default_factory=dict)
    members: dict[int, frozenset[int]] = field(default_factory=dict)
    """room_nid -> member events that are told to who loads members lazily."""
    doubtful: set[int] = field(default_factory=set)
    """Rooms the user did not leave as a member: an invite turned down, a ban on top."""
    beside: set[int] = field(default_factory=set)
    """Those of them that this server is not in: nothing of them is told but the user's own membership."""
    steps: Steps = field(default_factory=lambda: Steps(STEPS))


class RoomSelector:
    """Selects what rooms tell a viewer. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        visibility: VisibilityFilter,
        classifier: Classifier,
        timelines: Timelines,
        state: StateReader,
        resets: ResolutionChangeReader,
        bundles: Bundles,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._visibility = visibility
        self._classifier = classifier
        self._timelines = timelines
        self._state = state
        self._resets = resets
        self._bundles = bundles

    async def candidates(self, request: SyncRequest) -> Candidates:
        """Rooms that may have news in (request.since, request.upto]."""
        kinds = await self._classifier.classify(request)
        timelines = await self._timelines.of(request, kinds)
        resets = await self._resets.of(request, kinds)
        shown = {*kinds.new, *kinds.left, *timelines, *resets}
        if request.full_state:
            shown |= kinds.joined
        return Candidates(kinds, timelines, resets, await self._rooms.get_many(shown) if shown else {})

    async def updates(
        self,
        request: SyncRequest,
        candidates: Candidates,
        among: Mapping[int, Room],
        given: Given = frozenset(),
        choice: StateChoice | None = None,
    ) -> dict[int, RoomUpdate]:
        """All that `in_groups` gives."""
        found: dict[int, RoomUpdate] = {}
        async for some in self.in_groups(request, candidates, among, given, choice):
            found |= some
        return found

    async def in_groups(
        self,
        request: SyncRequest,
        candidates: Candidates,
        among: Mapping[int, Room],
        given: Given = frozenset(),
        choice: StateChoice | None = None,
    ) -> AsyncIterator[dict[int, RoomUpdate]]:
        """room_nid -> what it tells, of those `among` the candidates, some at a time. `given`: member events that need not be told
        again to a client that loads members lazily. `choice`: only with `state_after`; None: the state that the filter wants.
        """
        for group in groups(request, candidates.kinds, candidates.timelines, among):
            if len(group) < len(among):
                await next_turn()
            yield await self._updates(request, candidates, group, given, choice)

    async def _updates(
        self,
        request: SyncRequest,
        candidates: Candidates,
        among: Mapping[int, Room],
        given: Given,
        choice: StateChoice | None,
    ) -> dict[int, RoomUpdate]:
        timelines = {nid: candidates.timelines[nid] for nid in among if nid in candidates.timelines}
        work = _Work(request, candidates.kinds, timelines, among, given, candidates.resets, choice)
        await self._doubt(work)
        await self._look(work)
        await self._choose_state(work)
        loaded = await self._events.load(list(chain.from_iterable(work.state.values())))
        work.bundles = await self._bundled(work)
        return {nid: await self._update(work, nid, room, loaded) for nid, room in among.items()}

    async def _look(self, work: _Work) -> None:
        """What of the timelines the user may see, and wants to."""
        request = work.request
        pages = {work.rooms[room]: timeline.events for room, timeline in work.timelines.items()}
        viewer = Viewer(request.requester.user_id, request.requester.user_nid)
        visible: dict[Room, Sequence[Visible]] = {**await self._visibility.many(viewer, pages)}
        if request.ignored:  # spec: #ignoring-users: messages go, state stays (SYNC-16)
            visible = {
                room: [
                    v
                    for v in page
                    if v.persisted.event.is_state or v.persisted.event.sender not in request.ignored
                ]
                for room, page in visible.items()
            }
        for nid, timeline in list(work.timelines.items()):
            room = work.rooms[nid]
            hides = len(visible.get(room, ())) < len(timeline.raw)
            if hides and not request.state_after and nid not in work.doubtful:
                work.timelines[nid], visible[room] = begun_later(timeline, visible[room])
            if hides and request.since is not None and (nid in work.kinds.new or nid in work.kinds.passed):
                work.timelines[nid] = limited_if_new(work.timelines[nid], visible[room])
        work.visible = visible
        told: dict[int, Room] = {}
        for nid, room in work.rooms.items():
            # What a limited timeline leaves out may have changed the summary (SYNC-09).
            unseen = nid in work.timelines and work.timelines[nid].limited
            shown = visible.get(room, ())
            unseen = unseen or nid in work.resets
            if (
                unseen
                or is_whole(request, work.kinds, nid)
                or any(changes_summary(v.persisted) for v in shown)
            ):
                told[nid] = room
        naming = await self._events.load({event for room in told.values() for event in naming_events(room)})
        for nid, room in told.items():
            if work.steps.full(_looked_through(room)):
                await next_turn()
            work.heroes[nid] = heroes_of(room, request.requester.user_id, naming)

    async def _choose_state(self, work: _Work) -> None:
        request = work.request
        known = {
            room: work.kinds.left.get(room, request.upto)
            for room in {**work.timelines, **work.resets}
            if room in work.rooms and not is_whole(request, work.kinds, room)
        }
        changed = (
            await self._state.changed(request, work.timelines, known, work.resets)
            if known and request.since is not None
            else {}
        )
        for nid, room in work.rooms.items():
            visible = work.visible.get(room, [])
            joined = nid in work.kinds.joined
            unseen: StateNids = {}
            if nid in work.doubtful:
                unseen = self._own_membership(work, nid, visible)
            elif not request.state_after:
                unseen = unseen_state(work.timelines.get(nid), visible, room.state if joined else None)
            if nid in work.beside:
                work.state[nid] = list(self._own_membership(work, nid, visible).values())
            elif is_whole(request, work.kinds, nid):
                state = (
                    await self._state.whole(room, work.timelines.get(nid), request, joined=joined) | unseen
                )
                work.state[nid] = self._of_whole_state(work, nid, visible, state)
            else:
                work.state[nid] = self._of_changes(work, nid, visible, changed.get(nid, {}) | unseen)
        await self._withhold(work)

    def _of_whole_state(
        self, work: _Work, nid: int, visible: Sequence[Visible], state: StateNids
    ) -> list[int]:
        """State events of a whole state that the client wants; notes its members if they are loaded lazily."""
        people = self._people(work, nid, visible)
        if work.choice is not None:
            state = work.choice.choose(nid, state, people or ())
        elif people is not None:
            state = {key: at for key, at in state.items() if key[0] != MEMBER or key[1] in people}
        if people is not None:
            work.members[nid] = frozenset(at for key, at in state.items() if key[0] == MEMBER)
        return list(state.values())

    def _of_changes(self, work: _Work, nid: int, visible: Sequence[Visible], delta: StateNids) -> list[int]:
        """The same of what has changed, with the members that are needed for the timeline and not given yet."""
        people = self._people(work, nid, visible)
        if work.choice is not None:
            limited = nid in work.timelines and work.timelines[nid].limited
            delta = work.choice.choose(nid, delta, (people or ()) if limited else None)
        if people is not None:
            members = self._member_events(work.rooms[nid], people, visible)
            fresh = {key: at for key, at in members.items() if (nid, at) not in work.given}
            work.members[nid] = frozenset(fresh.values())
            delta = delta | fresh
        return sorted(delta.values())

    async def _doubt(self, work: _Work) -> None:
        left = {nid: at for nid, at in work.kinds.left.items() if nid in work.rooms}
        if left:
            ends = await self._events.load(left.values())
            user_id = work.request.requester.user_id
            work.doubtful = {nid for nid, at in left.items() if not ends_stay(ends.get(at), user_id)}
            own = await self._events.load([work.request.memberships[nid].event_nid for nid in left])
            work.beside = {
                nid
                for nid in left
                if (event := own.get(work.request.memberships[nid].event_nid)) and event.flags & OUTLIER
            }
            work.doubtful |= work.beside

    async def _withhold(self, work: _Work) -> None:
        """Of doubtful rooms, only state the user may see."""
        if not work.doubtful:
            return
        reader = work.request.requester
        loaded = await self._events.load({event for nid in work.doubtful for event in work.state[nid]})
        mine = (MEMBER, reader.user_id)
        pages = {
            work.rooms[nid]: [
                loaded[event]
                for event in work.state[nid]
                if event in loaded and (loaded[event].event.type != MEMBER or loaded[event].event.key == mine)
            ]
            for nid in work.doubtful
        }
        seen = await self._visibility.many(Viewer(reader.user_id, reader.user_nid), pages)
        work.state.update(
            {room.name.nid: [item.persisted.nid for item in items] for room, items in seen.items()}
        )

    def _own_membership(self, work: _Work, nid: int, visible: Iterable[Visible]) -> StateNids:
        """How the reader stands to a room they did not leave as a member, where the timeline does not show it (HV-02)."""
        own = work.request.memberships[nid].event_nid
        if not own or (not work.request.state_after and any(item.persisted.nid == own for item in visible)):
            return {}
        return {(MEMBER, work.request.requester.user_id): own}

    def _people(self, work: _Work, nid: int, visible: Iterable[Visible]) -> set[str] | None:
        """Whose member events a lazy client needs: senders, heroes, and on a whole state its own (FILT-05, SYNC-10); who makes
        a choice of its own needs senders, and of whom member events tell. None: it loads all members.
        """
        if work.choice is not None:
            if not work.choice.lazy(nid):
                return None
            events = [item.persisted.event for item in visible]
            told = {event.key[1] for event in events if event.key is not None and event.key[0] == MEMBER}
            return told.union(event.sender for event in events)
        if not work.request.filter.room.state.lazy_load_members:
            return None
        people: set[str] = {v.persisted.event.sender for v in visible}
        people.update(work.heroes.get(nid, ()))
        if is_whole(work.request, work.kinds, nid):
            people.add(work.request.requester.user_id)
        return people

    def _member_events(self, room: Room, people: Iterable[str], visible: Iterable[Visible]) -> StateNids:
        shown = {v.persisted.event.key for v in visible if v.persisted.event.type == MEMBER}
        keys = [(MEMBER, user) for user in people if (MEMBER, user) not in shown]
        return {key: room.state[key] for key in keys if key in room.state}

    async def _bundled(self, work: _Work) -> dict[int, bytes]:
        """Bundles of the events in limited timelines: where nothing is left out, clients see for themselves (SYNC-23)."""
        pages = {
            work.rooms[nid]: [item.persisted for item in work.visible.get(work.rooms[nid], ())]
            for nid, timeline in work.timelines.items()
            if timeline.limited
        }
        if not pages:
            return {}
        reader = work.request.requester
        return await self._bundles.of(Viewer(reader.user_id, reader.user_nid), reader.device_id, pages)

    async def _update(
        self, work: _Work, nid: int, room: Room, loaded: Mapping[int, PersistedEvent]
    ) -> RoomUpdate:
        request = work.request
        visible = work.visible.get(room, [])
        wanted = request.filter.room.state
        in_timeline = {v.persisted.nid for v in visible} if not request.state_after else set()
        viewer = Viewer(request.requester.user_id, request.requester.user_nid)
        plain = plain_after(room, viewer)
        state: list[Visible] = []
        for some in pieces(work.state.get(nid, ()), STEPS // 4):
            if work.steps.full(4 * len(some) if wanted.selective else len(some)):
                await next_turn()
            state += [
                as_state(plain, viewer, loaded[at])
                for at in some
                if at in loaded
                and at not in in_timeline
                and (not wanted.selective or wanted.matches(loaded[at].event))
            ]
        return RoomUpdate(
            room=room,
            joined=nid in work.kinds.joined and nid not in work.kinds.left,
            whole=is_whole(request, work.kinds, nid),
            timeline=work.timelines.get(nid),
            events=visible,
            state=state,
            heroes=work.heroes.get(nid),
            bundles=work.bundles,
            members=work.members.get(nid, frozenset()),
            gone=self._gone(work, nid, room),
        )

    def _gone(self, work: _Work, nid: int, room: Room) -> Sequence[StateKey]:
        """Where resolution has left nothing, of what the choice wants."""
        if work.choice is None or nid not in work.resets or nid not in work.kinds.joined:
            return ()
        if is_whole(work.request, work.kinds, nid):
            return ()
        nothing = {r.key: 0 for r in work.resets[nid] if not r.event_nid and r.key not in room.state}
        return sorted(work.choice.choose(nid, nothing, None)) if nothing else ()


def _looked_through(room: Room) -> int:
    """Steps that finding its heroes takes: if there are too few members, all who ever were are gone through."""
    present = room.joined_count + room.invited_count
    return 1 if present > HEROES or len(room.members) < STEPS else len(room.members) // 4
