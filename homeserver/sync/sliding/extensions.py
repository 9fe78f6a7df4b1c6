"""Extensions of sliding sync: what other streams of `/sync` give, under their names here.

spec: MSC3885 (to-device), MSC3884 (end-to-end encryption), MSC3959 (account data), MSC3960 (receipts), MSC3961 (typing),
MSC4508 (typing, and what all have in common), MSC4308 (thread subscriptions), MSC4480 (sticky events),
MSC4262 (profiles)
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from homeserver.graph.interning import Interning
from homeserver.graph.read.visibility import Visible
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.matrix.tokens import format_token, parse_token
from homeserver.sync.ephemeral import EphemeralSource
from homeserver.sync.sliding.connection import State
from homeserver.sync.sliding.ports import ProfileUpdates, ThreadChanges, WantedProfiles
from homeserver.sync.sliding.request import UNSTABLE, Extension, ProfilesWish, SlidingRequest, ThreadsWish
from homeserver.sync.sliding.windows import Windows
from homeserver.sync.sliding.writing import json_object
from homeserver.sync.sticky import StickySections
from homeserver.sync.types import NO_NEWS, JoinedRooms, Stream, SyncRequest
from homeserver.sync.v3.render import Renderer

MAX_STICKY: Final = 100
"""Sticky events in one answer, beside those of rooms that are new to the client."""
THREADS: Final = UNSTABLE["thread_subscriptions"]
STICKY: Final = UNSTABLE["sticky_events"]
_EVENTS: Final = len(b'{"events":')


class Streams(NamedTuple):
    """Of `/sync`, those that extensions are made of."""

    to_device: Stream
    key_counts: Stream
    device_lists: Stream
    account_data: Stream
    unread: Stream
    receipts: EphemeralSource
    typing: EphemeralSource
    threads: ThreadChanges
    profiles: ProfileUpdates


class About(NamedTuple):
    """What a connection is about, beside what it asks."""

    state: State
    """What it knew."""
    known: Mapping[int, Any]
    """By number, rooms that it will have been told of."""
    windows: Windows
    members: Mapping[int, Collection[UserId]]
    """Of rooms that load members lazily, those whose memberships the answer tells."""


@dataclass(slots=True)
class Extended:
    """What extensions say."""

    members: dict[str, bytes] = field(default_factory=dict)
    """Name of an extension -> JSON."""
    news: bool = False
    """Whether a long poll ends for it."""
    rooms: dict[str, frozenset[int] | None] = field(default_factory=dict)
    """As in `State`: what the connection knows then."""
    more: bool = False
    """Whether there is more to be told that did not fit in."""


class ExtensionsService:
    """Asks streams for what extensions want. Keeps nothing in memory."""

    def __init__(self, streams: Streams, interning: Interning, sticky: StickySections) -> None:
        self._streams = streams
        self._sticky = sticky
        self._interning = interning
        self._reads = {
            "account_data": frozenset(streams.account_data.recipients()),
            "receipts": frozenset(streams.receipts.recipients()),
            "typing": frozenset(streams.typing.recipients()),
            "typing_unstable": frozenset(streams.typing.recipients()),
        }
        """By extension, the entries of the log without which there is no news of it in rooms that it was about before."""
        self._reads_unread = frozenset(streams.unread.recipients())
        self._reads_devices = frozenset(streams.device_lists.recipients())
        self._reads_threads = frozenset(streams.threads.recipients())

    async def of(
        self,
        asked: SlidingRequest,
        request: SyncRequest,
        about: About,
    ) -> Extended:
        """`request`: since the token. Raises `InvalidParam` for a `since` that is none."""
        found, wanted, state = Extended(), asked.extensions, about.state
        if wanted.to_device.enabled:
            await self._to_device(request, wanted.to_device.since, found)
        if wanted.e2ee.enabled:
            await self._e2ee(request, state, found)
        if wanted.account_data.enabled and not self._still(
            "account_data", wanted.account_data, request, about, found
        ):
            scope = self._scope("account_data", wanted.account_data, request, about, found)
            begun = request if "account_data" in state.extensions else _since(request, None)
            await self._account_data(begun, scope, found)
        if wanted.thread_subscriptions.enabled:
            await self._threads(wanted.thread_subscriptions, request, state, found)
        for name, source in (
            ("receipts", self._streams.receipts),
            ("typing", self._streams.typing),
            ("typing_unstable", self._streams.typing),
        ):
            extension: Extension = getattr(wanted, name)
            if extension.enabled and not self._still(name, extension, request, about, found):
                scope = self._scope(name, extension, request, about, found)
                await self._ephemeral(name, source, request, scope, found)
        if wanted.profiles.enabled:
            await self._profiles(wanted.profiles, request, about, found)
        return found

    async def quiet(self, asked: SlidingRequest, request: SyncRequest, state: State) -> Extended:
        """The same where nothing has happened that concerns the user, and the connection was asked the same before."""
        found, wanted = Extended(rooms=dict(state.extensions)), asked.extensions
        if wanted.to_device.enabled:
            await self._to_device(request, wanted.to_device.since, found)
        if wanted.e2ee.enabled:
            counts = await self._streams.key_counts.changes(request, _nowhere(request))
            found.members["e2ee"] = json_object(counts.always)
        return found

    async def sticky(  # what all extensions are asked with
        self,
        asked: SlidingRequest,
        request: SyncRequest,
        windows: Windows,
        shown: Mapping[int, Sequence[Visible]],
        found: Extended,
    ) -> None:
        """Sticky events of all rooms that a list has, whatever its ranges, or that are subscribed to. `shown`: what the answer has
        in timelines. Raises `InvalidParam` for a `since` that is none. spec: MSC4480
        """
        wish = asked.extensions.sticky_events
        if not wish.enabled:
            return
        since = parse_token(wish.since, f"extensions.{STICKY}.since") if wish.since else 0
        if self._sticky.nothing or not 0 <= since <= request.upto:
            return
        about = request.joined.intersection(chain(*windows.matched, windows.subscribed.values()))
        rooms = await self._sticky.among(request, since, about)
        if not rooms:
            return
        there = {nid: {each.persisted.nid for each in shown.get(nid, ())} for nid in rooms}
        page = await self._sticky.page(request, since, rooms, there, min(wish.limit, MAX_STICKY))
        found.more = page.upto < request.upto
        if not page.rooms and not found.more:
            return
        renderer = Renderer(request)
        told = {
            nid: b'{"events":[%b]}' % b",".join(map(renderer.event, events))
            for nid, events in page.rooms.items()
        }
        found.news = True
        token = json.dumps(format_token(page.upto))
        found.members[STICKY] = json_object({"next_batch": token, "rooms": await self._by_room(told)})

    async def unread(self, request: SyncRequest) -> frozenset[int]:
        """Rooms of which the counts change though nothing has happened in them."""
        if request.since is None or _none_of(request, self._reads_unread):
            return frozenset()
        part = await self._streams.unread.changes(request, JoinedRooms({}, request.joined, frozenset()))
        return frozenset(part.rooms)

    # --- which rooms ----------------------------------------------------------------------------------------------

    def _still(
        self, name: str, extension: Extension, request: SyncRequest, connection: About, found: Extended
    ) -> bool:
        """Whether an extension of all rooms is about those that it was about, and nothing it reads has happened."""
        state = connection.state
        if (
            not extension.everywhere
            or connection.known is not state.rooms
            or state.extensions.get(name, ()) is not None
        ):
            return False
        found.rooms[name] = None
        return _none_of(request, self._reads[name])

    @staticmethod
    def _scope(
        name: str, extension: Extension, request: SyncRequest, connection: About, found: Extended
    ) -> JoinedRooms:
        """Rooms an extension is about, and those of them that it has not been about before."""
        state, known, windows, _ = connection
        if extension.everywhere:
            about = request.joined.intersection(known)
            found.rooms[name] = None
        else:
            about = request.joined.intersection(extension.within(windows.lists, windows.subscribed), known)
            before = state.extensions.get(name)
            found.rooms[name] = before if before == about else about
        if name not in state.extensions:
            return JoinedRooms({}, about, about)
        told = state.extensions[name]
        new = about.difference(state.rooms if told is None else told)
        return JoinedRooms({}, about, new)

    # --- one by one -------------------------------------------------------------------------------------------------

    async def _to_device(self, request: SyncRequest, since: str | None, found: Extended) -> None:
        given = parse_token(since, "extensions.to_device.since") if since else 0
        part = NO_NEWS
        if 0 <= given <= request.upto:
            part = await self._streams.to_device.changes(
                _since(request, request.since, to_device=given), _nowhere(request)
            )
        upto = request.upto if part.to_device is None else part.to_device
        events = part.top.get("to_device")
        found.news = found.news or events is not None
        found.members["to_device"] = b'{"next_batch":"%b","events":%b}' % (
            format_token(upto).encode(),
            b"[]" if events is None else events[_EVENTS:-1],
        )

    async def _e2ee(self, request: SyncRequest, state: State, found: Extended) -> None:
        counts = await self._streams.key_counts.changes(request, _nowhere(request))
        members = dict(counts.always)
        if "e2ee" in state.extensions and not _none_of(request, self._reads_devices):
            lists = await self._streams.device_lists.changes(request, _nowhere(request))
            members.update(lists.top)
            found.news = found.news or bool(lists.top)
        found.rooms["e2ee"] = None
        found.members["e2ee"] = json_object(members)

    async def _account_data(self, request: SyncRequest, scope: JoinedRooms, found: Extended) -> None:
        part = NO_NEWS
        if request.since is None or scope.new or not _nothing(request):
            part = await self._streams.account_data.changes(request, scope)
        members: dict[str, bytes] = {}
        if "account_data" in part.top:
            members["global"] = part.top["account_data"][_EVENTS:-1]
        rooms = {nid: each["account_data"][_EVENTS:-1] for nid, each in part.rooms.items()}
        if rooms:
            members["rooms"] = await self._by_room(rooms)
        if members:
            found.news = True
            found.members["account_data"] = json_object(members)

    async def _ephemeral(
        self, name: str, source: EphemeralSource, request: SyncRequest, scope: JoinedRooms, found: Extended
    ) -> None:
        events: dict[int, dict[str, Any]] = {}
        if scope.new:
            begun = _since(request, None)
            events = await source.events(begun, JoinedRooms({}, scope.new, frozenset()))
            events = {nid: event for nid, event in events.items() if any(event["content"].values())}
        known = scope.joined_nids - scope.new
        if request.since is not None and known and not _nothing(request):
            events |= await source.events(request, JoinedRooms({}, known, frozenset()))
        if events:
            found.news = True
            rooms = {nid: json.dumps(event) for nid, event in events.items()}
            found.members[UNSTABLE.get(name, name)] = json_object({"rooms": await self._by_room(rooms)})

    async def _threads(self, wish: ThreadsWish, request: SyncRequest, state: State, found: Extended) -> None:
        """spec: MSC4308"""
        found.rooms["thread_subscriptions"] = None
        since = (request.since or 0) if "thread_subscriptions" in state.extensions else 0
        if since and _none_of(request, self._reads_threads):
            return
        page = await self._streams.threads.page(request.requester, since, request.upto, wish.limit)
        if page.members:
            found.news = True
            before = {} if page.before is None else {"prev_batch": json.dumps(page.before)}
            found.members[THREADS] = json_object({**page.members, **before})

    async def _profiles(
        self, wish: ProfilesWish, request: SyncRequest, connection: About, found: Extended
    ) -> None:
        """spec: MSC4262. What was told is remembered by the fields that are wanted: with others it begins anew."""
        fields = None if wish.fields is None else frozenset(wish.fields)
        named = "*" if fields is None else hashlib.sha256(json.dumps(sorted(fields))).hexdigest()[:16]
        name = f"profiles {named}"
        scope = self._scope(name, wish, request, connection, found)
        rules = connection.windows.rules
        lazy = frozenset(nid for nid in scope.new if nid in rules and rules[nid].required.lazy)
        wanted = WantedProfiles(
            fields,
            scope.joined_nids,
            scope.new - lazy,
            {user for nid in scope.joined_nids for user in connection.members.get(nid, ())},
            name not in connection.state.extensions,
        )
        page = await self._streams.profiles.page(request, wanted)
        if page.later:
            found.rooms[name], found.more = scope.joined_nids - page.later, True
        if page.users:
            found.news = True
            found.members[UNSTABLE["profiles"]] = json_object({"users": json_object(page.users)})

    async def _by_room(self, rooms: Mapping[int, bytes]) -> bytes:
        names = await self._interning.rooms(rooms.keys())
        return json_object({str(names[nid].room_id): value for nid, value in rooms.items()})


def _nothing(request: SyncRequest) -> bool:
    """Whether nothing has happened since the token."""
    return request.since == request.upto


def _none_of(request: SyncRequest, kinds: frozenset[type[Entry]]) -> bool:
    """Whether since the token no entries of these types were written, as far as memory reaches."""
    return _nothing(request) or (request.recent is not None and request.recent.kinds.isdisjoint(kinds))


def _nowhere(request: SyncRequest) -> JoinedRooms:
    return JoinedRooms({}, request.joined, frozenset())


def _since(request: SyncRequest, since: Position | None, *, to_device: Position = 0) -> SyncRequest:
    """The same from somewhere else."""
    return SyncRequest(
        requester=request.requester,
        filter=request.filter,
        since=since,
        upto=request.upto,
        now_ms=request.now_ms,
        full_state=False,
        state_after=None,
        memberships=request.memberships,
        joined=request.joined,
        recent=request.recent if since is not None else None,
        unwanted=request.unwanted,
        to_device=to_device,
    )
