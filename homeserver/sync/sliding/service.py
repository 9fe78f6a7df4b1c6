"""One request of sliding sync: build an answer, or wait until there is something to say and build it then.

spec: MSC4186
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from homeserver.events.filtering import EVERYTHING
from homeserver.graph.interning import Interning
from homeserver.graph.refs import BAN, LEAVE, MEMBERSHIP_NAMES
from homeserver.log.tail import Tail
from homeserver.matrix import json
from homeserver.rooms.memberships import Memberships, UserRooms
from homeserver.runtime.clock import Clock
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.notifier import Notifier
from homeserver.sync.selection.lazy import Given, GivenMembers
from homeserver.sync.sliding.alike import AlikeRooms
from homeserver.sync.sliding.connection import Pos, State, UnknownPos, format_pos, parse_pos
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.extensions import About, Extended, ExtensionsService
from homeserver.sync.sliding.material import MaterialReader
from homeserver.sync.sliding.ports import Labels
from homeserver.sync.sliding.request import Presence, SlidingRequest, StableRequest, ToDevice, check
from homeserver.sync.sliding.rooms import SlidingRooms
from homeserver.sync.sliding.settled import Grounds, Settled, SettledConnections
from homeserver.sync.sliding.shared import STATE, Section
from homeserver.sync.sliding.store import Key
from homeserver.sync.sliding.told import Told, Wanted, nothing_told
from homeserver.sync.sliding.windows import Rule, Windows, match, rules_of
from homeserver.sync.sliding.writing import json_object, quoted
from homeserver.sync.types import Counts, Ignores, PresenceTouch, SyncRequest, Unwanted
from homeserver.web.auth import Requester

MAX_TIMELINE: Final = 100
_MEMBERSHIPS: Final = {number: json.dumps(name) for number, name in MEMBERSHIP_NAMES.items()}


class Asked(NamedTuple):
    """One request."""

    body: SlidingRequest
    pos: str | None
    timeout_ms: int
    set_presence: Presence
    stable: bool = False
    """Whether it was asked at the stable endpoint."""


@dataclass(slots=True, kw_only=True)
class _Answer:
    """What is to be said as of a position."""

    request: SyncRequest
    windows: Windows
    told: Told
    extended: Extended
    grounds: Grounds
    ids: Mapping[int, str] = field(default_factory=dict)
    """room_nid -> room id of all rooms in `sections`."""
    sections: dict[int, Section] = field(default_factory=dict)

    @property
    def news(self) -> bool:
        """Whether a long poll ends for it."""
        return bool(self.sections) or self.extended.news


class _Match(NamedTuple):
    """What a request matches, as of its moment."""

    request: SyncRequest
    windows: Windows
    grounds: Grounds
    again: bool
    """Whether `windows` has the same rooms, and wants the same of them, as when the connection was told all that there was."""


class _Question(NamedTuple):
    """One request, and the connection it is asked on."""

    requester: Requester
    asked: Asked
    wish: SlidingRequest
    """As `_wish` has it."""
    key: Key
    pos: Pos | None
    state: State
    """What the connection knew at `pos`."""
    settled: Settled | None
    """The answer before, if the same was asked then."""


class SlidingService:
    """Answers sliding sync. Owns which members connections that load them lazily have been given; a bounded cache."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        tail: Tail,
        memberships: Memberships,
        interning: Interning,
        material: MaterialReader,
        rooms: SlidingRooms,
        alike: AlikeRooms,
        extensions: ExtensionsService,
        connections: Connections,
        notifier: Notifier,
        log_slices: LogSlices,
        ignores: Ignores,
        presence: PresenceTouch,
        counts: Counts,
        clock: Clock,
        most: int = MAX_TIMELINE,
    ) -> None:
        """`most`: events of a room in one answer, whatever is asked."""
        self._tail = tail
        self._memberships = memberships
        self._interning = interning
        self._material = material
        self._rooms = rooms
        self._alike = alike
        self._extensions = extensions
        self._connections = connections
        self._notifier = notifier
        self._log_slices = log_slices
        self._ignores = ignores
        self._presence = presence
        self._counts = counts
        self._clock = clock
        self._most = most
        self._given = GivenMembers()
        self._settled = SettledConnections()

    async def sync(self, requester: Requester, asked: Asked) -> bytes:
        """The answer as JSON. Raises `UnknownPos` where the client has to begin again, `InvalidParam`."""
        key, wish = Key(requester.user_nid, requester.device_id or "", asked.body.conn_id), _wish(asked.body)
        settled = self._settled.get(key, wish)
        if settled is None:
            check(asked.body)
        pos = None if asked.pos is None else await self._position(asked.pos)
        state = await self._connections.find(key, pos)
        question = _Question(requester, asked, wish, key, pos, state, settled)
        await self._presence.touch(requester, asked.set_presence)
        deadline = self._clock.monotonic() + asked.timeout_ms / 1000
        while True:
            answer = await self._build(question)
            if pos is None or answer.news:
                break
            if not await self._wait(requester, answer, deadline - self._clock.monotonic()):
                break
        return await self._finish(question, answer)

    async def _position(self, text: str) -> Pos:
        pos = parse_pos(text)
        if pos.position > self._tail.position:
            await self._tail.fresh()
        if pos.position > self._tail.position or self._tail.lost(pos.position) is not None:
            raise UnknownPos("pos: not a position of this server")
        return pos

    async def _wait(self, requester: Requester, answer: _Answer, seconds: float) -> bool:
        if seconds <= 0:
            return False
        if self._tail.position > answer.request.upto:
            return True
        return await self._notifier.wait(requester, seconds)

    # --- building ---------------------------------------------------------------------------------------------------

    async def _build(self, question: _Question) -> _Answer:
        if (answer := await self._quiet(question)) is not None:
            return answer
        asked, state = question.asked, question.state
        request, windows, grounds, again = await self._match(question)
        given = self._given_already(question)
        told = self._alike.told(request, windows.rules, state, given) if again else None
        if told is None:
            wanted = Wanted(windows.rules, grounds.direct, asked.stable)
            told = await self._rooms.told(request, wanted, state, given)
        known = {**state.rooms, **told.rooms} if told.rooms else state.rooms
        extended = await self._extensions.of(asked.body, request, About(state, known, windows, told.people))
        await self._extensions.sticky(asked.body, request, windows, told.shown, extended)
        answer = _Answer(
            request=request,
            windows=windows,
            told=told,
            extended=extended,
            grounds=grounds,
            sections=told.sections,
        )
        await self._count(answer, state)
        if answer.sections:
            answer.ids = await self._material.ids(request.requester.user_nid, request.memberships)
        return answer

    def _given_already(self, question: _Question) -> Given:
        """Members that a connection need not be told again."""
        key = question.key
        return self._given.acknowledged(key.user_nid, f"{key.device_id}\0{key.conn_id}", question.asked.pos)

    async def _quiet(self, question: _Question) -> _Answer | None:
        """The answer where the same is asked as last time and nothing has happened since that concerns the user; None: it may
        be another.
        """
        requester, settled = question.requester, question.settled
        if settled is None or question.pos is None or settled.pos != question.asked.pos:
            return None
        unwanted = await self._ignores.of(requester.user_nid)
        user = await self._memberships.of(requester.user_nid)
        request = self._request(requester, question.pos, user, unwanted)
        assert request.since is not None
        self._given_already(question)
        if request.recent is None or self._log_slices.concern(request.since, request.upto).reaches(
            requester.user_nid, user.joined
        ):
            return None
        extended = await self._extensions.quiet(question.asked.body, request, question.state)
        return _Answer(
            request=request,
            windows=settled.windows,
            told=nothing_told(),
            extended=extended,
            grounds=settled.grounds_after(request, request.recent),
        )

    def _request(
        self, requester: Requester, pos: Pos | None, user: UserRooms, unwanted: Unwanted
    ) -> SyncRequest:
        """As of now."""
        since, upto = None if pos is None else pos.position, self._tail.position
        return SyncRequest(
            requester=requester,
            filter=EVERYTHING,
            since=since,
            upto=upto,
            now_ms=self._clock.now_ms(),
            full_state=False,
            state_after=STATE,
            memberships=user.rooms,
            joined=user.joined,
            recent=None if since is None else self._log_slices.between(since, upto),
            unwanted=unwanted,
        )

    async def _match(self, question: _Question) -> _Match:
        """What is asked of the user's rooms as they are now: positions, memberships and facts that belong together."""
        requester, body, settled = question.requester, question.asked.body, question.settled
        if (again := await self._match_again(question)) is not None:
            return again
        while True:
            unwanted = await self._ignores.of(requester.user_nid)
            user = await self._memberships.of(requester.user_nid)
            material = await self._material.of(requester, body, user, unwanted, question.state.rooms)
            if self._memberships.cached(requester.user_nid) is user:
                break
        # Nothing was awaited since.
        request, moment = self._request(requester, question.pos, user, unwanted), user.moment
        rules = rules_of(body, requester.user_id, self._most) if settled is None else settled.windows.asked
        windows = await match(body, material, rules)
        _say_goodbye(windows, request, question.state)
        direct = _direct(windows, material.labels, material.ids)
        grounds = Grounds(moment, material.labels, unwanted.all_invites, material.removed, direct)
        return _Match(request, windows, grounds, again=False)

    async def _match_again(self, question: _Question) -> _Match | None:
        """The same by what was matched before and what has happened since, if that is enough to tell."""
        requester, pos, settled = question.requester, question.pos, question.settled
        if settled is None or pos is None or pos.version != settled.version:
            return None
        user_nid, position = requester.user_nid, self._tail.position
        unwanted = await self._ignores.of(user_nid)
        labels = await self._material.labels(user_nid)
        user = await self._memberships.of(user_nid)
        if position != self._tail.position:
            return None  # what was read is not of one moment
        request = self._request(requester, pos, user, unwanted)
        windows = await settled.windows_now(user, labels, unwanted, request.upto, self._log_slices)
        if windows is None:
            return None
        if windows.rules is settled.windows.rules:
            return _Match(request, windows, settled.grounds, again=True)
        _say_goodbye(windows, request, question.state)
        direct = _direct(windows, labels, await self._material.ids(user_nid, request.memberships))
        return _Match(request, windows, settled.grounds._replace(direct=direct), again=False)

    async def _count(self, answer: _Answer, state: State) -> None:
        """Counts of what is unread, of rooms in the answer and of those whose counts have changed."""
        request = answer.request
        counted = set(answer.told.counted)
        for nid in await self._extensions.unread(request):
            if nid in state.rooms and nid in answer.windows.rules:
                counted.add(nid)
        if not counted:
            return
        names = await self._interning.rooms(counted)
        for nid, members in (await self._counts.of(request, names)).items():
            answer.sections.setdefault(nid, {}).update(_counts(members["unread_notifications"]))

    def _settle(self, question: _Question, token: str, version: int, answer: _Answer) -> None:
        """Remember that there is nothing more to tell, if it is so."""
        told = answer.told
        more = told.later or told.gone or answer.extended.more  # lists no longer have the rooms that are gone
        upto, windows, grounds = answer.request.upto, answer.windows, answer.grounds
        settled = None if more else Settled(token, version, upto, question.wish, windows, grounds)
        self._settled.put(question.key, settled)

    # --- writing down -----------------------------------------------------------------------------------------------

    async def _finish(self, question: _Question, answer: _Answer) -> bytes:
        key, state, asked = question.key, question.state, question.asked
        version = await self._connections.next(key, question.pos, _after(state, answer), state)
        token = format_pos(Pos(answer.request.upto, version))
        self._given.sent(key.user_nid, f"{key.device_id}\0{key.conn_id}", token, answer.told.members)
        self._settle(question, token, version, answer)
        windows = answer.windows
        if not windows.written:
            windows.written = json.dumps({name: {"count": count} for name, count in windows.counts.items()})
        parts = [b'{"pos":"%b","lists":%b,"rooms":{' % (token.encode(), windows.written)]
        for number, (nid, section) in enumerate(answer.sections.items()):
            section["membership"] = _MEMBERSHIPS[answer.request.memberships[nid].membership]
            within = [name for name, rooms in windows.lists.items() if nid in rooms]
            if within:
                section["lists"] = json.dumps(within)
            parts.append(
                b"%b%b:%b" % (b"," if number else b"", quoted(answer.ids[nid]), json_object(section))
            )
        parts.append(b'},"extensions":%b' % json_object(answer.extended.members))
        if isinstance(asked.body.txn_id, str):
            parts.append(b',"txn_id":' + json.dumps(asked.body.txn_id))
        return b"".join((*parts, b"}"))


@lru_cache(maxsize=1_024)
def _counts(told: bytes) -> Mapping[str, bytes]:
    """Members of a room's section, of the same in `/v3/sync`."""
    return {member: b"%d" % count for member, count in msgspec.json.decode(told, type=dict[str, int]).items()}


def _wish(body: SlidingRequest) -> SlidingRequest:
    """What is asked but for what each request says anew: where it goes on (at the stable endpoint), and how far to-device messages
    and sticky events have come.
    """
    if isinstance(body, StableRequest):
        body = replace(body, pos=None, timeout=0, set_presence="online")
    extensions = body.extensions
    if extensions.to_device.since is None and extensions.sticky_events.since is None:
        return body
    to_device = ToDevice(enabled=extensions.to_device.enabled)
    sticky_events = replace(extensions.sticky_events, since=None)
    return replace(body, extensions=replace(extensions, to_device=to_device, sticky_events=sticky_events))


def _direct(windows: Windows, labels: Labels, ids: Mapping[int, str]) -> AbstractSet[int]:
    """Rooms in the windows that are conversations with one person."""
    labelled = labels.direct
    return frozenset(nid for nid in windows.rules if ids[nid] in labelled) if labelled else frozenset()


def _say_goodbye(windows: Windows, request: SyncRequest, state: State) -> None:
    """Rooms the connection was told of and the user has left are told once more, also where no list has them any longer."""
    if len(request.joined) == len(request.memberships):
        return
    for nid, sent in state.rooms.items():
        own = request.memberships.get(nid)
        if own is not None and own.membership in (LEAVE, BAN) and nid not in windows.rules:
            windows.rules[nid] = Rule(sent.limit, sent.required)


def _after(state: State, answer: _Answer) -> State:
    """What the connection knows with the answer; `state` itself if that is the same."""
    told, extended = answer.told, answer.extended
    gone = told.gone - answer.grounds.removed
    rooms = state.rooms
    if told.rooms or gone:
        merged = {**rooms, **told.rooms}
        rooms = {nid: sent for nid, sent in merged.items() if nid not in gone} if gone else merged
    extensions = state.extensions if extended.rooms == state.extensions else extended.rooms
    if rooms is state.rooms and extensions is state.extensions:
        return state
    return state._replace(rooms=rooms, extensions=extensions)
