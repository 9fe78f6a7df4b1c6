"""The stream of rooms: everything about rooms in an answer but what other streams add to them.

spec: client-server-api/#syncing (SYNC-01 to SYNC-10, SYNC-13 to SYNC-16)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible, as_state
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.matrix.tokens import format_token
from homeserver.rooms.entries import ForgetEntry
from homeserver.sync.rooms.classify import Classified, Classifier, ends_stay
from homeserver.sync.rooms.lazy import Given, GivenMembers
from homeserver.sync.rooms.render import Renderer
from homeserver.sync.rooms.resolution_changes import ResolutionChangeReader, ResolutionChanges
from homeserver.sync.rooms.shared import Key, SharedSections, has_plain_wishes, key_of
from homeserver.sync.rooms.state import StateNids, StateReader, unseen_state
from homeserver.sync.rooms.stripped import StrippedRooms
from homeserver.sync.rooms.summary import changes_summary, heroes_of, naming_events, summary_of
from homeserver.sync.rooms.timeline import Timeline, Timelines, begun_later, limited_if_new
from homeserver.sync.types import JoinedRooms, Recipients, SyncRequest

MEMBER = "m.room.member"
Section = bytes
"""What is told of a room: members of a JSON object, without its braces."""


@dataclass(slots=True)
class RoomsPart:
    """Sections of rooms, by room id."""

    join: dict[int, Section] = field(default_factory=dict)
    leave: dict[int, Section] = field(default_factory=dict)
    invite: dict[int, Section] = field(default_factory=dict)
    knock: dict[int, Section] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """One request's material."""

    request: SyncRequest
    kinds: Classified
    timelines: dict[int, Timeline]
    rooms: Mapping[int, Room]
    visible: dict[Room, Sequence[Visible]] = field(default_factory=dict)
    state: dict[int, list[int]] = field(default_factory=dict)
    """room_nid -> state events of its section."""
    resets: ResolutionChanges = field(default_factory=dict)
    heroes: dict[int, list[UserId]] = field(default_factory=dict)
    """Rooms whose summary is in the answer."""
    bundles: Mapping[int, bytes] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    """Rooms the user did not leave as a member: an invite turned down, a ban on top."""


class RoomsStream:
    """The stream of rooms of `/sync`; a projection only for the caches of what it has told."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        visibility: VisibilityFilter,
        classifier: Classifier,
        timelines: Timelines,
        state: StateReader,
        resets: ResolutionChangeReader,
        stripped: StrippedRooms,
        bundles: Bundles,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._visibility = visibility
        self._classifier = classifier
        self._timelines = timelines
        self._state = state
        self._resets = resets
        self._stripped = stripped
        self._bundles = bundles
        self._given = GivenMembers()
        self._shared = SharedSections()

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """Events concern everybody in the room, and whose membership they change."""

        def of_event(entry: EventEntry) -> Recipients:
            users = [
                change.user_nid for change in entry.changes if change.local and change.user_nid is not None
            ]
            return Recipients(users, entry.persisted.room_nid)

        return {EventEntry: of_event, ForgetEntry: lambda entry: Recipients((entry.user_nid,))}

    def handlers(self) -> dict[type[Entry], Callable[[int, Any], None]]:
        return {EventEntry: self._applied}

    def reset(self) -> None:
        self._shared.clear()

    def _applied(self, _: int, entry: EventEntry) -> None:
        if entry.redacts is not None:  # what is stripped may stand in a section
            self._shared.clear()

    async def changes(self, request: SyncRequest) -> tuple[RoomsPart, JoinedRooms]:
        """Sections of all rooms with news."""
        kinds = await self._classifier.classify(request)
        timelines = await self._timelines.of(request, kinds)
        resets = await self._resets.of(request, kinds)
        shown = {*kinds.new, *kinds.left, *timelines, *resets}
        if request.full_state:
            shown |= kinds.joined
        rooms = await self._rooms.get_many(shown) if shown else {}
        part = RoomsPart()
        sharing = timelines if not resets else {nid: t for nid, t in timelines.items() if nid not in resets}
        own, keys = self._share(request, kinds, sharing, rooms, part)
        work = _Work(
            request, kinds, {nid: timelines[nid] for nid in own if nid in timelines}, own, resets=resets
        )
        if own:
            await self._doubt(work)
            await self._look(work)
            await self._choose_state(work)
            await self._render(work, part)
            for nid, key in keys.items():
                if nid in part.join:
                    self._shared.put(key, part.join[nid])
        if kinds.invited or kinds.knocked:
            part.invite, part.knock = await self._stripped.sections(request, kinds)
        return part, JoinedRooms(rooms, kinds.joined, kinds.new)

    def _share(
        self,
        request: SyncRequest,
        kinds: Classified,
        timelines: Mapping[int, Timeline],
        rooms: Mapping[int, Room],
        part: RoomsPart,
    ) -> tuple[Mapping[int, Room], dict[int, Key]]:
        """Take sections that were made for somebody else already. Returns the other rooms, and the keys of those that can
        be shared.
        """
        if not has_plain_wishes(request):
            return rooms, {}
        lazy = request.filter.room.state.lazy_load_members
        given = self._given_already(request) if lazy else None
        own: dict[int, Room] = {}
        keys: dict[int, Key] = {}
        for nid, room in rooms.items():
            plain = nid in kinds.joined and nid not in kinds.new and nid in timelines
            key = key_of(request, room, timelines[nid], given) if plain else None
            section = self._shared.get(key) if key else None
            if key is not None and section is not None:
                part.join[nid] = section
                if key.members:
                    self._remember_given(request, {(nid, at) for at in key.members})
                continue
            own[nid] = room
            if key is not None:
                keys[nid] = key
        return own, keys

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
            if unseen or self._is_whole(work, nid) or any(changes_summary(v.persisted) for v in shown):
                told[nid] = room
        naming = await self._events.load({event for room in told.values() for event in naming_events(room)})
        for nid, room in told.items():
            work.heroes[nid] = heroes_of(room, request.requester.user_id, naming)

    def _is_whole(self, work: _Work, room: int) -> bool:
        """Whether the room's state is given whole, not as a change."""
        kinds = work.kinds
        return (
            work.request.full_state or work.request.since is None or room in kinds.new or room in kinds.passed
        )

    async def _choose_state(self, work: _Work) -> None:
        request = work.request
        known = {
            room: work.kinds.left.get(room, request.upto)
            for room in {**work.timelines, **work.resets}
            if room in work.rooms and not self._is_whole(work, room)
        }
        changed = (
            await self._state.changed(request, work.timelines, known, work.resets)
            if known and request.since is not None
            else {}
        )
        wanted = request.filter.room.state
        lazy = wanted.lazy_load_members
        # A client without a filter gets every member at once; what it was given before is of no concern.
        given = self._given_already(request) if lazy else set()
        sent: Given = set()
        for nid, room in work.rooms.items():
            visible = work.visible.get(room, [])
            joined = nid in work.kinds.joined
            unseen: StateNids = {}
            if nid in work.doubtful:
                unseen = self._own_membership(work, nid, visible)
            elif not request.state_after:
                unseen = unseen_state(work.timelines.get(nid), visible, room.state if joined else None)
            if self._is_whole(work, nid):
                state = (
                    await self._state.whole(room, work.timelines.get(nid), request, joined=joined) | unseen
                )
                people = self._people(work, nid, visible) if lazy else None
                if people is not None:
                    state = {key: at for key, at in state.items() if key[0] != MEMBER or key[1] in people}
                chosen = list(state.values())
                sent.update((nid, at) for key, at in state.items() if key[0] == MEMBER and lazy)
            else:
                delta = changed.get(nid, {}) | unseen
                if lazy:
                    members = self._member_events(room, self._people(work, nid, visible), visible)
                    fresh = {key: at for key, at in members.items() if (nid, at) not in given}
                    sent.update((nid, at) for at in fresh.values())
                    delta = delta | fresh
                chosen = sorted(delta.values())
            work.state[nid] = chosen
        await self._withhold(work)
        if lazy:
            self._remember_given(request, sent)

    async def _doubt(self, work: _Work) -> None:
        if work.kinds.left:
            ends = await self._events.load(work.kinds.left.values())
            user_id = work.request.requester.user_id
            work.doubtful = {
                nid
                for nid, at in work.kinds.left.items()
                if nid in work.rooms and not ends_stay(ends.get(at), user_id)
            }

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

    def _given_already(self, request: SyncRequest) -> Given:
        """Member events that a client which loads members lazily need not be given again."""
        if request.filter.room.state.include_redundant_members:
            return set()
        return self._given.acknowledged(
            request.requester.user_nid, request.requester.device_id or "", request.since
        )

    def _remember_given(self, request: SyncRequest, members: Given) -> None:
        self._given.sent(request.requester.user_nid, request.requester.device_id or "", request.upto, members)

    def _people(self, work: _Work, nid: int, visible: Iterable[Visible]) -> set[str]:
        """Whose member events a lazy client needs: senders, heroes, and on a whole state its own (FILT-05, SYNC-10)."""
        people: set[str] = {v.persisted.event.sender for v in visible}
        people.update(work.heroes.get(nid, ()))
        if self._is_whole(work, nid):
            people.add(work.request.requester.user_id)
        return people

    def _member_events(self, room: Room, people: Iterable[str], visible: Iterable[Visible]) -> StateNids:
        shown = {v.persisted.event.key for v in visible if v.persisted.event.type == MEMBER}
        keys = [(MEMBER, user) for user in people if (MEMBER, user) not in shown]
        return {key: room.state[key] for key in keys if key in room.state}

    async def _render(self, work: _Work, part: RoomsPart) -> None:
        request = work.request
        loaded = await self._events.load({nid for nids in work.state.values() for nid in nids})
        renderer = Renderer(request)
        work.bundles = await self._bundled(work)
        for nid, room in work.rooms.items():
            section = self._section(work, nid, room, loaded, renderer)
            if nid in work.kinds.left:
                part.leave[nid] = section
            elif nid in work.kinds.joined and section:
                part.join[nid] = section

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

    def _section(
        self, work: _Work, nid: int, room: Room, loaded: Mapping[int, PersistedEvent], renderer: Renderer
    ) -> Section:
        request, timeline = work.request, work.timelines.get(nid)
        visible = work.visible.get(room, [])
        wanted = request.filter.room.state
        in_timeline = {v.persisted.nid for v in visible} if not request.state_after else set()
        state = [
            loaded[at]
            for at in work.state.get(nid, ())
            if at in loaded
            and at not in in_timeline
            and (not wanted.selective or wanted.matches(loaded[at].event))
        ]
        if not (
            visible
            or state
            or nid in work.heroes
            or nid in work.kinds.left
            or (timeline and timeline.limited)
        ):
            return b""
        limited = timeline is not None and timeline.limited
        prev = format_token(timeline.start if timeline else request.since or request.upto)
        section = b'"timeline":{"events":[%b],"limited":%b,"prev_batch":%b}' % (
            b",".join(renderer.event(v, work.bundles.get(v.persisted.nid, b"")) for v in visible),
            b"true" if limited else b"false",
            json.dumps(prev),
        )
        viewer = Viewer(request.requester.user_id, request.requester.user_nid)
        events = b'{"events":[%b]}' % b",".join(
            renderer.event(as_state(room, viewer, persisted)) for persisted in state
        )
        section += b',"%b":%b' % ((request.state_after or "state").encode(), events)
        if nid in work.heroes and nid in work.kinds.joined:
            section += b',"summary":%b' % summary_of(room, work.heroes[nid], json.dumps)
        return section


__all__ = ["RoomsPart", "RoomsStream", "Section"]
