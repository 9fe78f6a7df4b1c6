"""A page of results, written down.

spec: op:search
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from homeserver.events.client_format import room_member
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.visibility import Viewer, Visible
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.cutting import Term
from homeserver.matrix.tokens import format_token
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.search.around import Near, Surroundings
from homeserver.search.highlights import highlights
from homeserver.search.matches_store import Match
from homeserver.search.pages import Result
from homeserver.search.tokens import Group, GroupKey, Place, format_place
from homeserver.search.types import Criteria
from homeserver.web.auth import Requester


class Found(NamedTuple):
    """What is ranked and counted together, and the page of it that is shown."""

    place: Place
    """What this page goes on from, its bounds filled in."""
    matches: list[Match]
    """In the order that was asked for."""
    next: int
    """Index of the first match that no page has shown."""
    results: list[Result]
    states: Mapping[str, bytes] = {}
    """Room id -> its state, a JSON array; where it was asked for."""


class Answers:
    """Writes answers down. Keeps nothing in memory."""

    def __init__(self, bundles: Bundles, surroundings: Surroundings, clock: Clock) -> None:
        self._bundles = bundles
        self._surroundings = surroundings
        self._clock = clock

    async def build(
        self,
        requester: Requester,
        ends: Mapping[int, Position],
        criteria: Criteria,
        term: Term,
        found: Found,
    ) -> bytes:
        """The `room_events` of an answer, as JSON. `ends`: room_nid -> up to where the reader may read."""
        viewer = Viewer(requester.user_id, requester.user_nid)
        near: dict[int, Near] = {}
        if criteria.event_context is not None and found.results:
            targets = [(result.room, result.seen.persisted) for result in found.results]
            near = await self._surroundings.of(viewer, targets, ends, criteria.event_context)
        await next_turn()
        render = await self._renderer(requester, viewer, found.results, near)
        results = [
            b'{"rank":%b,"result":%b%b}'
            % (
                json.dumps(result.match.rank),
                render.one(result.seen),
                _context(render, result, near[result.match.event_nid]) if near else b"",
            )
            for result in found.results
        ]
        parts = [
            b'"count":%d' % found.place.count,
            b'"highlights":' + json.dumps(highlights(term, (result.text for result in found.results))),
            b'"results":[%b]' % b",".join(results),
        ]
        # Others tell of a full page only with the next one that there is none: clients and bots count on a token.
        full = len(found.results) == criteria.limit
        if (token := _following(found, found.place.group, full=full)) is not None:
            parts.append(b'"next_batch":' + json.dumps(token))
        if criteria.include_state:
            states = (b"%b:%b" % (json.dumps(room_id), state) for room_id, state in found.states.items())
            parts.append(b'"state":{%b}' % b",".join(states))
        if criteria.group_keys:
            parts.append(b'"groups":' + json.dumps(_groups(criteria.group_keys, found)))
        return b"{%b}" % b",".join(parts)

    async def _renderer(
        self, requester: Requester, viewer: Viewer, results: Iterable[Result], near: Mapping[int, Near]
    ) -> _Renderer:
        pages: dict[Room, dict[int, PersistedEvent]] = {}
        for result in results:
            page = pages.setdefault(result.room, {})
            around = near.get(result.match.event_nid, _NOTHING)
            for item in (result.seen, *around.before, *around.after):
                page[item.persisted.nid] = item.persisted
        extra = await self._bundles.of(
            viewer, requester.device_id, {room: list(page.values()) for room, page in pages.items()}
        )
        return _Renderer(Reader(requester.user_nid, requester.device_id), self._clock.now_ms(), extra)


class _Renderer:
    """Writes events for one reader at one moment."""

    def __init__(self, reader: Reader, now_ms: int, extra: Mapping[int, bytes]) -> None:
        self._reader = reader
        self._now_ms = now_ms
        self._extra = extra

    def one(self, item: Visible) -> bytes:
        persisted = item.persisted
        return persisted.render(
            self._reader,
            item.membership,
            self._now_ms,
            item.previous,
            self._extra.get(persisted.nid, b""),
            room_member(persisted.event.room_id),
        )

    def all(self, items: Iterable[Visible]) -> bytes:
        return b"[%b]" % b",".join(map(self.one, items))


_NOTHING = Near([], [], {})


def _context(render: _Renderer, result: Result, near: Near) -> bytes:
    first = near.before[-1].persisted.nid if near.before else result.match.event_nid
    last = near.after[-1].persisted.nid if near.after else result.match.event_nid
    profiles = b',"profile_info":' + json.dumps(near.profiles) if near.profiles else b""
    return b',"context":{"start":%b,"end":%b,"events_before":%b,"events_after":%b%b}' % (
        json.dumps(format_token(first - 1)),
        json.dumps(format_token(last)),
        render.all(near.before),
        render.all(near.after),
        profiles,
    )


def _following(found: Found, group: Group | None, *, full: bool = False) -> str | None:
    """The token of what comes after this page; None: nothing does. In a group: whether any of it does is told beforehand.

    `full`: as many results as were asked for; then there is a token, if only of an empty page.
    """
    place = found.place
    if found.next < len(found.matches) or (full and place.whole and found.next):
        last = found.matches[found.next - 1] if found.next else None
        return format_place(
            Place(
                place.order,
                place.before,
                place.since,
                place.whole,
                place.count,
                last.rank if last else 0.0,
                last.event_nid if last else None,
                group,
            )
        )
    if place.whole or place.since is None:
        return None
    return format_place(Place(place.order, place.since, None, whole=False, count=place.count, group=group))


def _groups(keys: Sequence[GroupKey], found: Found) -> dict[str, Any]:
    """spec: op:search `groups`: the results of this page by room or sender, the first group being that of the first result.

    In what goes on within a group there is no other group than that.
    """
    groups: dict[str, Any] = {}
    only = found.place.group
    for key in keys:
        if only is not None and key != only.key:
            continue
        members: dict[str, list[Result]] = {}
        for result in found.results:
            members.setdefault(_value(key, result), []).append(result)
        groups[key] = {
            value: _group(found, key, value, order, of)
            for order, (value, of) in enumerate(members.items(), 1)
        }
    return groups


def _value(key: GroupKey, result: Result) -> str:
    event = result.seen.persisted.event
    return event.room_id if key == "room_id" else event.sender


def _group(found: Found, key: GroupKey, value: str, order: int, of: Sequence[Result]) -> dict[str, Any]:
    group: dict[str, Any] = {
        "order": order,
        "results": [result.seen.persisted.event.event_id for result in of],
    }
    first = of[0]
    same = any(_is_same(key, first.match, match) for match in found.matches[found.next :])
    if same or not found.place.whole:
        # What is left of the group may be in a part of the log that nobody has looked at yet.
        rest = found if same else found._replace(next=len(found.matches))
        group["next_batch"] = _following(rest, Group(key, value))
    return group


def _is_same(key: GroupKey, one: Match, other: Match) -> bool:
    """Whether two matches are in one group."""
    if key == "room_id":
        return one.room_nid == other.room_nid
    return one.sender_nid == other.sender_nid
