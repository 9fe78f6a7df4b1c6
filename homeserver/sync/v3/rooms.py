"""The rooms of `/v3/sync`: what was selected of them, as sections of the answer.

spec: op:sync `rooms`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.sticky import StickyAccepted
from homeserver.log.entries import Entry
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix import json
from homeserver.matrix.tokens import format_token
from homeserver.rooms.entries import ForgetEntry
from homeserver.runtime.turns import Steps, next_turn
from homeserver.sync.selection.lazy import Given, GivenMembers
from homeserver.sync.selection.selector import Candidates, RoomSelector
from homeserver.sync.selection.stripped import StrippedRoom, StrippedRooms
from homeserver.sync.selection.update import RoomUpdate
from homeserver.sync.sticky import NAME as STICKY
from homeserver.sync.sticky import StickySections
from homeserver.sync.types import JoinedRooms, Recipients, SyncRequest
from homeserver.sync.v3.render import WRITING_STEPS, Renderer, writing_steps
from homeserver.sync.v3.shared import Key, Shared, has_plain_wishes, key_of

Section = bytes
"""What is told of a room: members of a JSON object, without its braces."""


@dataclass(slots=True)
class RoomsPart:
    """Sections of rooms, by room number."""

    join: dict[int, Section] = field(default_factory=dict)
    leave: dict[int, Section] = field(default_factory=dict)
    invite: dict[int, Section] = field(default_factory=dict)
    knock: dict[int, Section] = field(default_factory=dict)


class RoomsStream:
    """The stream of rooms of `/v3/sync`; a projection only for the caches of what it has told."""

    def __init__(self, selector: RoomSelector, stripped_rooms: StrippedRooms, sticky: StickySections) -> None:
        self._selector = selector
        self._sticky = sticky
        self._stripped = stripped_rooms
        self._given = GivenMembers()
        self._shared = Shared[Section]()

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """Events concern everybody in the room, and whose membership they change."""

        def of_event(entry: EventEntry) -> Recipients:
            users = [
                change.user_nid for change in entry.changes if change.local and change.user_nid is not None
            ]
            return Recipients(users, entry.persisted.room_nid)

        return {
            EventEntry: of_event,
            ForgetEntry: lambda entry: Recipients((entry.user_nid,)),
            StickyAccepted: lambda entry: Recipients((), entry.room_nid),
        }

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return self._shared.handlers()

    def reset(self) -> None:
        self._shared.reset()

    async def changes(self, request: SyncRequest) -> tuple[RoomsPart, JoinedRooms]:
        """Sections of all rooms with news."""
        found = await self._selector.candidates(request)
        kinds = found.kinds
        lazy = request.filter.room.state.lazy_load_members
        # A client without a filter gets every member at once; what it was given before is of no concern.
        given = self._given_already(request) if lazy else None
        part = RoomsPart()
        emptied = self._shared.emptied
        own, keys = self._share(request, found, given, part)
        renderer = Renderer(request)
        sticky: Collection[int] = ()
        if not self._sticky.nothing:
            sticky = await self._sticky.among(request, request.since or 0, kinds.joined)
        shown: dict[int, Sequence[PersistedEvent]] = {}
        steps = Steps(WRITING_STEPS)
        async for updates in self._selector.in_groups(request, found, own, given or set()):
            if lazy and updates:
                told = {(nid, at) for nid, update in updates.items() for at in update.members}
                self._remember_given(request, told)
            for nid, update in updates.items():
                if update.empty:
                    continue
                shown[nid] = [item.persisted for item in update.events]
                section = await _section(update, request, renderer, steps)
                (part.join if update.joined else part.leave)[nid] = section
                if update.joined and nid in keys:
                    self._shared.put(keys[nid], section, emptied)
        if kinds.invited or kinds.knocked:
            for nid, room in (await self._stripped.of(request, kinds)).items():
                if nid in kinds.knocked:
                    part.knock[nid] = b'"knock_state":' + _stripped_events(room)
                else:
                    part.invite[nid] = b'"invite_state":' + _stripped_events(room)
        if sticky:
            await self._tell_sticky(request, sticky, shown, found, part)
        return part, JoinedRooms(found.rooms, kinds.joined, kinds.new)

    async def _tell_sticky(  # what an answer is made of
        self,
        request: SyncRequest,
        rooms: Collection[int],
        shown: Mapping[int, Sequence[PersistedEvent]],
        found: Candidates,
        part: RoomsPart,
    ) -> None:
        """What is sticky in rooms and not in their timelines. `shown`: room_nid -> events in it, of sections that were made for
        this answer; those that were made for others have all that is new. spec: MSC4354
        """
        renderer = Renderer(request)
        there: dict[int, Collection[int]] = {}
        for nid in rooms:
            shared = found.timelines[nid].raw if nid in part.join and nid in found.timelines else ()
            there[nid] = {each.nid for each in shown.get(nid, shared)}
        page = await self._sticky.page(request, request.since or 0, rooms, there)
        bare = b'"%b":{"events":[]}' % request.state_after.encode() if request.state_after else b""
        for nid, events in page.rooms.items():
            section = part.join.get(nid, bare)
            told = b'"%b":{"events":[%b]}' % (STICKY.encode(), b",".join(map(renderer.event, events)))
            part.join[nid] = b"%b,%b" % (section, told) if section else told

    def _share(
        self, request: SyncRequest, found: Candidates, given: Given | None, part: RoomsPart
    ) -> tuple[Mapping[int, Room], dict[int, Key]]:
        """Take sections that were made for somebody else already. Returns the other rooms, and the keys of those that can
        be shared.
        """
        if not has_plain_wishes(request):
            return found.rooms, {}
        kinds, timelines, resets = found.kinds, found.timelines, found.resets
        own: dict[int, Room] = {}
        keys: dict[int, Key] = {}
        for nid, room in found.rooms.items():
            plain = nid in kinds.joined and nid not in kinds.new and nid in timelines and nid not in resets
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

    def _given_already(self, request: SyncRequest) -> Given:
        """Member events that a client which loads members lazily need not be given again."""
        if request.filter.room.state.include_redundant_members:
            return set()
        return self._given.acknowledged(
            request.requester.user_nid, request.requester.device_id or "", request.since
        )

    def _remember_given(self, request: SyncRequest, members: Given) -> None:
        self._given.sent(request.requester.user_nid, request.requester.device_id or "", request.upto, members)


async def _section(update: RoomUpdate, request: SyncRequest, renderer: Renderer, steps: Steps) -> Section:
    if steps.full(writing_steps(update.events)):
        await next_turn()
    prev = format_token(update.timeline.start if update.timeline else request.since or request.upto)
    bundles = update.bundles
    section = b'"timeline":{"events":[%b],"limited":%b,"prev_batch":%b}' % (
        b",".join(renderer.event(v, bundles.get(v.persisted.nid, b"")) for v in update.events),
        b"true" if update.limited else b"false",
        json.dumps(prev),
    )
    events = await renderer.in_turns(update.state, steps)
    section += b',"%b":{"events":[%b]}' % ((request.state_after or "state").encode(), b",".join(events))
    if update.heroes is not None and update.joined:
        section += b',"summary":%b' % _summary(update)
    return section


def _summary(update: RoomUpdate) -> bytes:
    """JSON of the summary. spec: op:sync `RoomSummary` (SYNC-09)"""
    room = update.room
    members = {"m.joined_member_count": room.joined_count, "m.invited_member_count": room.invited_count}
    return json.dumps({"m.heroes": update.heroes, **members} if update.heroes else members)


def _stripped_events(room: StrippedRoom) -> bytes:
    return b'{"events":[%b]}' % b",".join(room.state)


__all__ = ["RoomsPart", "RoomsStream", "Section"]
