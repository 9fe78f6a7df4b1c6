"""The short way for a connection that goes on as before while only messages were sent: what each room tells was written down for
somebody else already, and no room has to be looked at in which nothing has happened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from homeserver.graph.read.visibility import Visible
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix.ids import UserId
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.selection.selector import Given
from homeserver.sync.selection.timeline import cut_already
from homeserver.sync.sliding.activity import activity
from homeserver.sync.sliding.connection import Sent, State
from homeserver.sync.sliding.shared import Section, SharedRooms, with_events, with_state
from homeserver.sync.sliding.told import Told
from homeserver.sync.sliding.windows import Rule
from homeserver.sync.types import SyncRequest
from homeserver.sync.v3.shared import has_plain_wishes, key_of


class AlikeRooms:
    """Tells what was told others. Keeps nothing in memory."""

    def __init__(self, rooms: Rooms, shared: SharedRooms) -> None:
        self._rooms = rooms
        self._shared = shared

    def told(
        self, request: SyncRequest, rules: Mapping[int, Rule], state: State, given: Given
    ) -> Told | None:
        """As `SlidingRooms.told`, without I/O, for a connection whose `state` holds nothing that is to be told of rooms where
        nothing has happened: it was told of all `rules` before. None: something has to be selected or written.
        """
        recent = request.recent
        if recent is None or request.other_invites or not has_plain_wishes(request):
            return None
        if request.requester.user_nid in recent.moved:
            return None
        sections: dict[int, Section] = {}
        members: set[tuple[int, int]] = set()
        shown: dict[int, Sequence[Visible]] = {}
        people: dict[int, Collection[UserId]] = {}
        moving, stating, by_room = activity(recent).moving, with_state(recent), recent.by_room
        happened = with_events(recent)
        for nid in happened if len(happened) <= len(rules) else rules:
            if nid not in rules or nid not in by_room:
                continue
            if nid not in request.joined or nid in moving or nid in stating:
                return None
            rule = rules[nid]
            timeline, room = cut_already(recent, rule.limit).get(nid), self._rooms.cached(nid)
            if timeline is None or room is None:
                return None
            key = key_of(request, room, timeline, given if rule.required.lazy else None)
            known = self._shared.get(key) if key is not None else None
            if key is None or known is None:
                return None
            sections[nid], shown[nid] = dict(known.section), known.events
            members.update((nid, at) for at in key.members)
            if rule.required.lazy:
                people[nid] = known.people
        outside = passed_over(request, recent, rules, state)
        return Told(sections, outside, frozenset(), members, frozenset(sections), False, shown, people)


def passed_over(
    request: SyncRequest, recent: LogSlice | None, rules: Mapping[int, Rule], state: State
) -> dict[int, Sent]:
    """Rooms that the connection knows, which no list has now, and of which it does not hear what has happened since."""
    if request.since is None:
        return {}
    found: dict[int, Sent] = {}
    known = state.rooms
    happened = known if recent is None else with_events(recent)
    for nid in happened if len(happened) <= len(known) else known:
        if nid in happened and nid not in rules and (sent := known.get(nid)) is not None and not sent.upto:
            found[nid] = sent._replace(upto=request.since)
    return found
