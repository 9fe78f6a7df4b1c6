"""Auth graphs without rooms: events that are nothing but an id and what they cite, cheap enough to make by the hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import V11, RoomVersion
from homeserver.events.state_resolution.auth_difference import walk_auth_difference
from homeserver.events.state_resolution.chain_cover import (
    ChainDifference,
    Link,
    NeedsCommon,
    Place,
    Span,
    place_event,
)
from homeserver.events.state_resolution.pool import NeedsAuthDifference, NeedsEvents, Pool
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import EventId, RoomId


def bare_event(
    event_id: str,
    auth: Sequence[str],
    *,
    key: StateKey = ("x", ""),
    sender: str = "@a:x",
    content: Mapping[str, object] | None = None,
    version: RoomVersion = V11,
    ts: int = 0,
) -> Event:
    """An event with a chosen id; ids need not be true for what only looks at the graph."""
    fields = {
        "type": key[0],
        "state_key": key[1],
        "sender": sender,
        "content": content or {},
        "origin_server_ts": ts,
        "depth": 1,
        "prev_events": [],
        "auth_events": auth,
    }
    pdu = canonical_json.encode_strict(fields)
    return Event(pdu=pdu, event_id=EventId(event_id), room_id=RoomId("!r:x"), room_version=version)


def graph(cites: Mapping[str, Sequence[str]]) -> dict[EventId, Event]:
    """Events by id, from what each cites."""
    return {EventId(name): bare_event(name, auth) for name, auth in cites.items()}


def question(
    common: Iterable[str], sides: Sequence[Iterable[str]], *, subgraph: bool = False
) -> NeedsAuthDifference:
    unconflicted = {("x", event_id): EventId(event_id) for event_id in common}
    return NeedsAuthDifference(unconflicted, tuple(frozenset(map(EventId, side)) for side in sides), subgraph)


def by_walking(asked: NeedsAuthDifference, events: Mapping[EventId, Event]) -> set[EventId]:
    """Auth difference and subgraph from the events, without the conflicted ones, which take part anyway."""
    pool = Pool(V11, frozenset(), asks_auth_difference=False)
    steps = walk_auth_difference(asked, pool)
    while True:
        try:
            request = next(steps)
        except StopIteration as stop:
            return set(stop.value).difference(*asked.conflicted)
        assert isinstance(request, NeedsEvents)
        pool.events.update((event_id, events[event_id]) for event_id in request.event_ids)


class ChainStore:
    """What a shell keeps: places and links, as rows would."""

    def __init__(self) -> None:
        """Begin without rows."""
        self.places: dict[EventId, Place] = {}
        self.at: dict[Place, EventId] = {}
        self.links: dict[int, list[Link]] = {}
        self.ends: dict[int, int] = {}
        self.age: dict[EventId, int] = {}
        self.asked = 0

    def add(self, event: Event) -> None:
        """Give an event its place; its auth events must have theirs."""
        auth = [self.places[auth_id] for auth_id in event.auth_event_ids]
        place, links = place_event(auth, self.ends, self.links, len(self.ends) + 1)
        self.places[event.event_id] = place
        self.age[event.event_id] = len(self.age)
        self.at[place] = event.event_id
        self.ends[place.chain] = place.sequence
        if links:
            self.links.setdefault(place.chain, []).extend(links)

    def answer(self, asked: NeedsAuthDifference) -> set[EventId]:
        """As `by_walking`, from the rows."""
        sides = [[self.places[event_id] for event_id in side] for side in asked.conflicted]
        difference = ChainDifference(None, sides, subgraph=asked.subgraph)
        while needs := difference.advance():
            self.asked += 1
            if isinstance(needs, NeedsCommon):
                difference.add_common(self._reaching(asked.unconflicted.values(), needs.spans))
                continue
            difference.add_links(
                needs.chains, {chain: self.links[chain] for chain in needs.chains if chain in self.links}
            )
        found = {
            self.at[Place(span.chain, sequence)]
            for span in difference.spans()
            for sequence in range(span.after + 1, span.upto + 1)
        }
        return found.difference(*asked.conflicted)

    def _reaching(self, event_ids: Iterable[EventId], spans: Iterable[Span]) -> list[Place]:
        """Places of those that are not older than all that is in the spans: auth events are older than what cites them."""
        first = min(
            self.age[self.at[Place(span.chain, sequence)]]
            for span in spans
            for sequence in range(span.after + 1, span.upto + 1)
        )
        return [self.places[event_id] for event_id in event_ids if self.age[event_id] >= first]
