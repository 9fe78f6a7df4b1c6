"""Rooms of sliding sync: which have news for a connection, and what was selected of them, written down.

spec: MSC4186, "Room results"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from homeserver.events.event import StateKey
from homeserver.events.filtering import Filter, RoomEventFilter, RoomFilter
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import Viewer, Visible, as_state, plain_after
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.matrix.tokens import format_token
from homeserver.runtime.turns import Steps, next_turn
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.selection.selector import Given, RoomSelector
from homeserver.sync.selection.stripped import StrippedRoom, StrippedRooms, described
from homeserver.sync.selection.update import RoomUpdate
from homeserver.sync.sliding.alike import passed_over
from homeserver.sync.sliding.choice import APART, AVATAR, NAME, Choice
from homeserver.sync.sliding.connection import Sent, State
from homeserver.sync.sliding.facts import RoomFacts
from homeserver.sync.sliding.shared import (
    STATE,
    Section,
    SharedRoom,
    SharedRooms,
    people_of,
    with_events,
)
from homeserver.sync.sliding.told import Told, Wanted, nothing_told
from homeserver.sync.sliding.windows import Rule
from homeserver.sync.types import SyncRequest
from homeserver.sync.v3.render import WRITING_STEPS, Renderer, writing_steps
from homeserver.sync.v3.shared import Key

MEMBER = "m.room.member"
MAX_GROUPS: Final = 8
"""Different positions from which rooms are told in one answer; rooms that are further behind are told anew."""
MAX_NEW: Final = 1_000
"""Rooms that one answer tells from the beginning; others are in the next one."""
ROOM_STEPS: Final = 10
"""Of writing a room, beside its events."""
STATE_STEPS: Final = 2_000
"""State events that are looked at in one turn."""


@dataclass(slots=True)
class Plan:
    """Which rooms are told from where."""

    groups: dict[tuple[Position | None, int], set[int]] = field(default_factory=dict)
    """(position, limit of events) -> rooms; None: from the beginning."""
    initial: set[int] = field(default_factory=set)
    """Rooms the connection does not know."""
    expanded: set[int] = field(default_factory=set)
    """Rooms of which more events are wanted than were told."""
    later: set[int] = field(default_factory=set)
    """Rooms that do not fit into this answer."""
    touched: set[int] = field(default_factory=set)
    """Rooms of which the connection knows something else then, whether there is news of them or not."""
    more_state: dict[int, Sent] = field(default_factory=dict)
    """Rooms of which other state is wanted than before -> what was told."""

    def add(self, since: Position | None, limit: int, room: int) -> None:
        """A room is told from there."""
        self.groups.setdefault((since, limit), set()).add(room)


class SlidingRooms:
    """Tells rooms to connections. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        selector: RoomSelector,
        stripped_rooms: StrippedRooms,
        facts: RoomFacts,
        log_slices: LogSlices,
        shared: SharedRooms,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._selector = selector
        self._stripped = stripped_rooms
        self._facts = facts
        self._log_slices = log_slices
        self._shared = shared

    async def told(
        self,
        request: SyncRequest,
        wanted: Wanted,
        state: State,
        given: Given,
    ) -> Told:
        """What is told of the rooms that match. `request`: of all the user's rooms since the token; `state`: what the
        connection knew then.
        """
        rules, direct, stubs = wanted
        plan = self._plan(request, rules, state, direct)
        if plan.later:
            rules = {nid: rule for nid, rule in rules.items() if nid not in plan.later}
        found = nothing_told()
        updates: dict[int, RoomUpdate] = {}
        invites: dict[int, StrippedRoom] = {}
        keys: dict[int, Key] = {}
        told_alike: dict[int, SharedRoom] = {}
        choice = Choice(rules)
        emptied = self._shared.emptied
        for (since, limit), nids in plan.groups.items():
            part = self._part(request, since, limit, nids)
            candidates = await self._selector.candidates(part)
            taken = self._shared.take(part, candidates, rules, plan.touched, given)
            told_alike.update(taken.shared)
            found.members.update(taken.members)
            keys.update(taken.keys)
            updates |= await self._selector.updates(part, candidates, taken.own, given, choice)
            invites |= await self._stripped.of(part, candidates.kinds)
        updates = {nid: update for nid, update in updates.items() if not update.empty}
        extra = await self._more_state(request, rules, plan, updates)
        if updates or extra or invites:
            writer = _Writer(request, plan, await self._about(updates), stubs=stubs)
            for nid, update in updates.items():
                found.sections[nid] = await writer.room(update, rules[nid])
                found.members.update((nid, at) for at in update.members)
                if nid in keys:
                    alike = SharedRoom(dict(found.sections[nid]), update.events, people_of(update))
                    self._shared.put(keys[nid], alike, emptied)
            for nid, events in extra.items():
                found.sections[nid] = await writer.state_alone(events)
            for nid, invite in invites.items():
                found.sections[nid] = writer.stripped(invite, request.memberships[nid].position)
        found.sections.update((nid, dict(room.section)) for nid, room in told_alike.items())
        self._remember(request, rules, state, plan, found, direct, updates)
        shown = {nid: update.events for nid, update in updates.items() if rules[nid].limit}
        lazy = [nid for nid in updates if rules[nid].required.lazy]
        return found._replace(
            gone=frozenset(nid for nid, update in updates.items() if not update.joined),
            counted=frozenset(nid for nid in found.sections if nid in request.joined),
            later=bool(plan.later),
            shown=shown | {nid: room.events for nid, room in told_alike.items()},
            people={nid: people_of(updates[nid]) for nid in lazy}
            | {nid: room.people for nid, room in told_alike.items() if rules[nid].required.lazy},
        )

    # --- which rooms ----------------------------------------------------------------------------------------------

    def _plan(
        self,
        request: SyncRequest,
        rules: Mapping[int, Rule],
        state: State,
        direct: AbstractSet[int],
    ) -> Plan:
        """The one walk through all rooms that match: what it says of most of them is nothing."""
        plan = Plan()
        since, slice_rooms = request.since, None if request.recent is None else with_events(request.recent)
        everywhere = slice_rooms is None or request.other_invites
        behind: Counter[Position] = Counter()
        known = state.rooms
        for nid, rule in rules.items():
            sent = known.get(nid)
            if sent is None or since is None:
                (plan.later if len(plan.initial) >= MAX_NEW else plan.initial).add(nid)
                continue
            upto, limit, wanted, was_direct = sent
            if rule.limit > limit and request.memberships[nid].membership == JOIN:
                own = request.memberships[nid]
                (plan.initial if own.position > (upto or since) else plan.expanded).add(nid)
                continue
            if wanted is not rule.required and wanted != rule.required:
                plan.more_state[nid] = sent
            elif not upto and was_direct == (nid in direct):
                if everywhere or (slice_rooms is not None and nid in slice_rooms):
                    plan.add(since, rule.limit, nid)
                continue
            plan.touched.add(nid)
            if upto:
                behind[upto] += 1
            elif everywhere or (slice_rooms is not None and nid in slice_rooms):
                plan.add(since, rule.limit, nid)
        plan.touched |= plan.initial | plan.expanded
        for nid in (*plan.initial, *plan.expanded):
            plan.add(None, rules[nid].limit, nid)
        if behind:
            self._catch_up(plan, rules, state, behind)
        return plan

    @staticmethod
    def _catch_up(plan: Plan, rules: Mapping[int, Rule], state: State, behind: Counter[Position]) -> None:
        """Rooms that come back into a window: from where the connection was told of them last."""
        near = {position for position, _ in sorted(behind.items(), reverse=True)[:MAX_GROUPS]}
        for nid in plan.touched - plan.expanded - plan.initial:
            sent, rule = state.rooms[nid], rules[nid]
            if not sent.upto:
                continue
            if sent.upto in near:
                plan.add(sent.upto, rule.limit, nid)
            else:
                plan.initial.add(nid)
                plan.more_state.pop(nid, None)
                plan.add(None, rule.limit, nid)

    def _part(
        self, request: SyncRequest, since: Position | None, limit: int, nids: Iterable[int]
    ) -> SyncRequest:
        """What is asked of these rooms alone."""
        recent = request.recent
        if since is None:
            recent = None
        elif since != request.since:
            recent = self._log_slices.between(since, request.upto)
        memberships = {nid: request.memberships[nid] for nid in nids}
        return SyncRequest(
            requester=request.requester,
            filter=_filter(limit),
            since=since,
            upto=request.upto,
            now_ms=request.now_ms,
            full_state=False,
            state_after=STATE,
            memberships=memberships,
            joined=request.joined.intersection(memberships),
            recent=recent,
            unwanted=request.unwanted,
        )

    async def _more_state(
        self,
        request: SyncRequest,
        rules: Mapping[int, Rule],
        plan: Plan,
        updates: dict[int, RoomUpdate],
    ) -> dict[int, list[Visible]]:
        """State that is wanted now and was not before: of rooms with news it goes to the news."""
        wanted = [nid for nid in plan.more_state if request.memberships[nid].membership == JOIN]
        if not wanted:
            return {}
        viewer = Viewer(request.requester.user_id, request.requester.user_nid)
        chosen: dict[int, set[int]] = {}
        rooms = await self._rooms.get_many(wanted)
        steps = Steps(STATE_STEPS)
        for nid, room in rooms.items():
            if steps.full(len(room.state)):
                await next_turn()
            now = rules[nid].required.choose(room.state, ())
            before = plan.more_state[nid].required.choose(room.state, ())
            chosen[nid] = {at for key, at in now.items() if key not in before}
        loaded = await self._events.load({at for nids in chosen.values() for at in nids})
        extra: dict[int, list[Visible]] = {}
        for nid, nids in chosen.items():
            if steps.full(len(nids)):
                await next_turn()
            plain = plain_after(rooms[nid], viewer)
            events = [as_state(plain, viewer, loaded[at]) for at in sorted(nids) if at in loaded]
            if nid in updates:
                there = {item.persisted.nid for item in updates[nid].state}
                updates[nid].state = [
                    *(item for item in events if item.persisted.nid not in there),
                    *updates[nid].state,
                ]
            elif events:
                extra[nid] = events
        return extra

    async def _about(self, updates: Mapping[int, RoomUpdate]) -> _About:
        """Events beside those that were selected: names, pictures, heroes."""
        wanted: set[int] = set()
        for update in updates.values():
            room = update.room
            if update.joined and update.whole:
                wanted.update(room.state[key] for key in APART if key in room.state)
            for hero in update.heroes or ():
                if (MEMBER, hero) in room.state:
                    wanted.add(room.state[MEMBER, hero])
        newest = {
            nid: reversed(update.timeline.raw) if update.timeline is not None else ()
            for nid, update in updates.items()
            if update.joined
        }
        return _About(await self._events.load(wanted), await self._facts.bumps(newest))

    # --- what the connection knows then -----------------------------------------------------------------------------

    def _remember(  # noqa: PLR0917  # what becomes of all this
        self,
        request: SyncRequest,
        rules: Mapping[int, Rule],
        state: State,
        plan: Plan,
        found: Told,
        direct: AbstractSet[int],
        updates: Mapping[int, RoomUpdate],
    ) -> None:
        """Note what the connection knows of rooms then, where it is something else; say which are conversations with one
        person, or are no longer.
        """
        for nid in plan.touched.union(updates):
            sent, rule, update = state.rooms.get(nid), rules[nid], updates.get(nid)
            limit, is_direct = rule.limit, nid in direct
            if sent is not None and nid not in plan.initial and not (update is not None and update.limited):
                limit = max(limit, sent.limit)
            known = sent is not None and sent.direct and nid not in plan.initial
            if known != is_direct:
                found.sections.setdefault(nid, {})["is_dm"] = b"true" if is_direct else b"false"
            after = Sent(0, limit, rule.required, is_direct)
            if after != sent:
                found.rooms[nid] = after
        found.rooms.update(passed_over(request, request.recent, rules, state))


class _About(NamedTuple):
    """What is told of rooms beside their events."""

    events: Mapping[int, PersistedEvent]
    bumps: Mapping[int, Position]


class _Writer:
    """Writes rooms down for one answer."""

    def __init__(self, request: SyncRequest, plan: Plan, about: _About, *, stubs: bool) -> None:
        self._request = request
        self._stubs = stubs
        self._plan = plan
        self._about = about
        self._renderer = Renderer(request)
        self._steps = Steps(WRITING_STEPS)

    async def room(self, update: RoomUpdate, rule: Rule) -> Section:
        """A room the user is joined to or has left."""
        if self._steps.full(ROOM_STEPS + writing_steps(update.events)):
            await next_turn()
        nid = update.room.name.nid
        section: Section = {}
        initial = nid in self._plan.initial or (update.whole and nid not in self._plan.expanded)
        if initial:
            section["initial"] = b"true"
        elif nid in self._plan.expanded:
            section["expanded_timeline"] = section["unstable_expanded_timeline"] = b"true"
        if update.timeline is not None and rule.limit:
            self._timeline(section, update)
        wants = rule.required.wants
        shown = [
            item
            for item in update.state
            if item.persisted.event.key not in APART or wants(item.persisted.event.key)
        ]
        events = await self._renderer.in_turns(shown, self._steps)
        if self._stubs:
            gone = [key for key in update.gone if key not in APART or wants(key)]
            events.extend(json.dumps({"type": kind, "state_key": key}) for kind, key in gone)
        if events or initial:
            section["required_state"] = b"[%b]" % b",".join(events)
        if update.joined:
            self._profile(section, update, whole=initial or nid in self._plan.expanded)
            bump = self._about.bumps.get(nid, 0)
            if bump and (initial or update.limited or bump > (update.start or 0)):
                section["bump_stamp"] = b"%d" % bump
        else:
            section["bump_stamp"] = b"%d" % self._request.memberships[nid].position
        return section

    def _timeline(self, section: Section, update: RoomUpdate) -> None:
        bundles, since = update.bundles, self._request.since
        section["timeline"] = b"[%b]" % b",".join(
            self._renderer.event(item, bundles.get(item.persisted.nid, b"")) for item in update.events
        )
        section["prev_batch"] = json.dumps(format_token(update.start or 0))
        section["limited"] = b"true" if update.limited else b"false"
        live = 0 if since is None else sum(item.persisted.nid > since for item in update.events)
        section["num_live"] = b"%d" % live

    def _profile(self, section: Section, update: RoomUpdate, *, whole: bool) -> None:
        """Name, picture, heroes and counts, as far as they are news."""
        room = update.room
        for key, member, content in ((NAME, "name", "name"), (AVATAR, "avatar", "url")):
            value = self._value(update, key, content, whole=whole)
            if value is not None:
                section[member] = value
        if update.heroes is not None:
            section["joined_count"] = b"%d" % room.joined_count
            section["invited_count"] = b"%d" % room.invited_count
            if update.heroes:
                section["heroes"] = json.dumps([self._hero(room, hero) for hero in update.heroes])

    def _value(self, update: RoomUpdate, key: StateKey, content: str, *, whole: bool) -> bytes | None:
        """JSON of what a state event says; None: it is no news, or there is nothing."""
        at = update.room.state.get(key)
        if whole:
            persisted = self._about.events.get(at or 0)
        else:
            changed = {
                item.persisted.nid: item.persisted
                for item in (*update.state, *update.events)
                if item.persisted.event.key == key
            }
            if not changed:
                return b"null" if key in update.gone else None
            persisted = changed.get(at or 0)
        text = persisted.event.content.get(content) if persisted is not None else None
        if isinstance(text, str) and text:
            return json.dumps(text)
        return None if whole else b"null"

    def _hero(self, room: Room, hero: UserId) -> dict[str, str]:
        told = {"user_id": str(hero)}
        persisted = self._about.events.get(room.state.get((MEMBER, hero), 0))
        if persisted is not None:
            for member in ("displayname", "avatar_url"):
                value = persisted.event.content.get(member)
                if isinstance(value, str) and value:
                    told[member] = value
        return told

    async def state_alone(self, events: Sequence[Visible]) -> Section:
        """A room without news, of which other state is wanted."""
        written = await self._renderer.in_turns(events, self._steps)
        return {"required_state": b"[%b]" % b",".join(written)}

    def stripped(self, room: StrippedRoom, position: Position) -> Section:
        """A room the user is invited to or has knocked on."""
        events = b"[%b]" % b",".join(room.state)
        return {
            "initial": b"true",
            "invite_state": events,
            "stripped_state": events,
            "bump_stamp": b"%d" % position,
            **described(room),
        }


@lru_cache(maxsize=256)
def _filter(limit: int) -> Filter:
    return Filter(room=RoomFilter(timeline=RoomEventFilter(limit=limit), include_leave=True))
