"""Authorisation and state resolution in a large room, in CPU time: `python -m benchmarks.core.state_resolution`.

A room with 10 000 members forks; on each branch a moderator bans, kicks, and changes levels, names and topics while others
join and rename themselves: 100 events that conflict. Events come as storage gives them, undecoded, afresh for every round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeserver.events.auth_rules import check
from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, next_depth
from homeserver.events.event import Event, StateKey
from homeserver.events.parse import event_from_storage
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.events.state_resolution import NeedsAuthDifference, NeedsEvents, Resolution, StateMap, resolve
from homeserver.events.state_resolution.chain_cover import ChainDifference, Link, Place, place_event
from homeserver.events.state_resolution.conflicts import find_conflicts
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey

MEMBERS = 10_000
CONFLICTING = 100
ROUNDS = 5

SERVER = ServerName("example.com")
KEY = SigningKey(b"\x01" * 32, "a_1")
ALICE = UserId("@alice:example.com")
MODERATOR = UserId("@moderator:example.com")
CREATE: StateKey = ("m.room.create", "")


@dataclass
class Branch:
    """One branch of a room's graph; copies share the events."""

    version: RoomVersion
    events: dict[EventId, Event] = field(default_factory=dict)
    state: dict[StateKey, EventId] = field(default_factory=dict)
    head: tuple[EventId, ...] = ()
    room_id: RoomId | None = None
    clock: int = 1_700_000_000_000

    def send(self, sender: str, event_type: str, key: str, content: Mapping[str, Any]) -> Event:
        """Append a state event that the rules allow."""
        keys = auth_keys_for(event_type, key, sender, content, self.version)
        self.clock += 1
        event = build_event(
            EventDraft(event_type, key, UserId(sender), content),
            room_id=self.room_id,
            room_version=self.version,
            prev=self.head,
            auth=[self.state[k] for k in keys if k in self.state],
            depth=next_depth((self.events[e].depth for e in self.head), self.version),
            origin_server_ts=self.clock,
            server_name=SERVER,
            signing_key=KEY,
        )
        self.room_id = event.room_id
        self.events[event.event_id] = event
        check(event, self.view([*keys, CREATE]), self.version)
        self.head = (event.event_id,)
        self.state[(event_type, key)] = event.event_id
        return event

    def member(self, user: str, membership: str, by: str, **content: Any) -> Event:
        return self.send(by, "m.room.member", user, {"membership": membership, **content})

    def view(self, keys: list[StateKey]) -> dict[StateKey, Event]:
        return {key: self.events[self.state[key]] for key in keys if key in self.state}

    def copy(self) -> Branch:
        return Branch(self.version, self.events, dict(self.state), self.head, self.room_id, self.clock)


def large_room(version: RoomVersion) -> Branch:
    room = Branch(version, room_id=None if version.room_id_is_create_hash else RoomId(f"!room:{SERVER}"))
    room.send(ALICE, "m.room.create", "", {"room_version": version.id})
    room.member(ALICE, "join", ALICE)
    users = {} if version.privileged_creators else {ALICE: 100}
    room.send(ALICE, "m.room.power_levels", "", {"users": {**users, MODERATOR: 50}})
    room.send(ALICE, "m.room.join_rules", "", {"join_rule": "public"})
    room.member(MODERATOR, "join", MODERATOR)
    for number in range(MEMBERS - 2):
        room.member(f"@user{number}:example.com", "join", f"@user{number}:example.com")
    return room


def fork(room: Branch) -> tuple[Branch, Branch]:
    """Two branches with `CONFLICTING` events between them, half on each."""
    left, right = room.copy(), room.copy()
    levels = dict(room.events[room.state[("m.room.power_levels", "")]].content)
    left.send(ALICE, "m.room.power_levels", "", {**levels, "ban": 40})
    right.send(ALICE, "m.room.power_levels", "", {**levels, "kick": 40})
    for number in range(CONFLICTING // 4 - 2):
        # Each conflict has a side that acted and the event that was there before, or an event on either side.
        user, other = f"@user{number}:example.com", f"@user{number + 1000}:example.com"
        left.member(user, ("ban", "leave")[number % 2], MODERATOR)
        right.member(user, "join", user, displayname="renamed")
        left.member(other, "join", other, displayname="left")
        right.member(other, "join", other, displayname="right")
    for name in ("m.room.topic", "m.room.name", "m.room.avatar"):
        left.send(ALICE, name, "", {"x": "left"})
        right.send(ALICE, name, "", {"x": "right"})
    return left, right


@dataclass
class Rows:
    """The chain cover as rows."""

    places: dict[EventId, Place] = field(default_factory=dict)
    names: dict[Place, EventId] = field(default_factory=dict)
    links: dict[int, list[Link]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        auth = [self.places[auth_id] for auth_id in event.auth_event_ids]
        place, links = place_event(auth, self.ends, self.links, len(self.ends) + 1)
        self.places[event.event_id], self.names[place] = place, event.event_id
        self.ends[place.chain] = place.sequence
        self.links.setdefault(place.chain, []).extend(links)

    def answer(self, asked: NeedsAuthDifference) -> set[EventId]:
        common = [self.places[e] for e in asked.unconflicted.values()]
        sides = [[self.places[e] for e in side] for side in asked.conflicted]
        difference = ChainDifference(common, sides, subgraph=asked.subgraph)
        while needs := difference.advance():
            difference.add_links(needs.chains, self.links)
        return {
            self.names[Place(span.chain, sequence)]
            for span in difference.spans()
            for sequence in range(span.after + 1, span.upto + 1)
        }


def best(prepare: Callable[[], Any], work: Callable[[Any], object]) -> float:
    """Milliseconds of CPU of the best round; what is prepared does not count."""
    times = []
    for _ in range(ROUNDS):
        prepared = prepare()
        began = time.process_time()
        work(prepared)
        times.append(time.process_time() - began)
    return min(times) * 1000


def undecoded(events: Mapping[EventId, Event]) -> dict[EventId, Event]:
    return {e: event_from_storage(x.pdu, e, x.room_id, x.room_version) for e, x in events.items()}


def with_chains(
    states: list[StateMap], events: Mapping[EventId, Event], rows: Rows, version: RoomVersion
) -> int:
    """Resolve as a shell does; returns how many events were loaded."""
    resolution = Resolution(states, version, asks_auth_difference=True)
    loaded = 0
    while request := resolution.advance():
        if isinstance(request, NeedsAuthDifference):
            resolution.add_auth_difference(rows.answer(request))
        else:
            assert isinstance(request, NeedsEvents)  # nothing else was asked for
            loaded += len(request.event_ids)
            resolution.add_events(events[event_id] for event_id in request.event_ids)
    return loaded


def authorise(room: Branch) -> float:
    """Microseconds to authorise a join, with nothing decoded before; the state is the whole room's."""
    state = undecoded(room.events)
    full = {key: state[event_id] for key, event_id in room.state.items()}
    template = room.copy().member("@user5:example.com", "join", "@user5:example.com", displayname="x")
    fresh = [
        event_from_storage(template.pdu, template.event_id, template.room_id, room.version)
        for _ in range(2000)
    ]
    began = time.process_time()
    for event in fresh:
        check(event, full, room.version)
    return (time.process_time() - began) / len(fresh) * 1e6


def report(version: RoomVersion) -> None:
    room = large_room(version)
    micros = authorise(room)
    left, right = fork(room)
    states: list[StateMap] = [left.state, right.state]
    conflicting = len(find_conflicts(states).conflicted_set)
    rows = Rows()
    for event in room.events.values():
        rows.add(event)
    walking = best(lambda: undecoded(room.events), lambda events: resolve(states, events, version))
    chains = best(lambda: undecoded(room.events), lambda events: with_chains(states, events, rows, version))
    loaded = with_chains(states, room.events, rows, version)
    print(f"room version {version.id}, {len(left.state)} entries of state, {conflicting} conflicting events")
    links = sum(map(len, rows.links.values()))
    print(f"  chain cover: {len(rows.places)} places on {len(rows.ends)} chains, {links} links")
    print(f"  authorise a member event            {micros:8.1f} us    (at most 200)")
    print(f"  resolve, auth difference by chains  {chains:8.1f} ms    (at most 150; {loaded} events loaded)")
    print(f"  resolve, auth difference by walking {walking:8.1f} ms    ({len(room.events)} events at hand)")


def main() -> None:
    for version in ("11", "12"):
        report(ROOM_VERSIONS[version])


if __name__ == "__main__":
    main()
