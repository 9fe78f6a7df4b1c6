"""Auth graphs that come from elsewhere: in which order events rest on each other, and which of them their own auth events allow.

Pure. spec: server-server-api/#checks-performed-on-receipt-of-a-pdu (step 4), #rejection
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from homeserver.events import auth_rules
from homeserver.events.auth_rules.auth_events import create_id_of
from homeserver.events.event import Event, StateKey
from homeserver.events.parse import event_from_storage
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.ids import EventId, RoomId

CREATE: StateKey = ("m.room.create", "")


class Ordered(NamedTuple):
    """Events, each after those of them that it rests on."""

    events: list[Event]
    circular: list[Event]
    """Those that rest on themselves: only versions 1 and 2, where servers choose ids, can say such a thing."""


def cited_by(event: Event) -> tuple[EventId, ...]:
    """What an event rests on: its auth events, and in version 12 the create event that they leave out (EVT-13)."""
    if event.room_version.room_id_is_create_hash and event.type != "m.room.create":
        return (*event.auth_event_ids, create_id_of(event))
    return event.auth_event_ids


def in_auth_order(events: Iterable[Event]) -> Ordered:
    """Time and memory grow with the events and what they cite. No event twice."""
    by_id = {event.event_id: event for event in events}
    waits_for = {
        event_id: len({each for each in cited_by(event) if each in by_id})
        for event_id, event in by_id.items()
    }
    citing: dict[EventId, list[EventId]] = {}
    for event_id, event in by_id.items():
        for each in set(cited_by(event)):
            if each in by_id:
                citing.setdefault(each, []).append(event_id)
    ordered: list[Event] = []
    ready = [event_id for event_id, count in waits_for.items() if not count]
    while ready:
        event_id = ready.pop()
        ordered.append(by_id[event_id])
        for later in citing.get(event_id, ()):
            waits_for[later] -= 1
            if not waits_for[later]:
                ready.append(later)
    if len(ordered) == len(by_id):
        return Ordered(ordered, [])
    return Ordered(ordered, [by_id[event_id] for event_id, count in waits_for.items() if count])


class AuthJudge:
    """Tells of events, each after those it rests on, whether their own auth events allow them."""

    def __init__(self, known: Mapping[EventId, Event], rejected: Collection[EventId]) -> None:
        """`known`: events that are judged already, among them `rejected`. Both are copied."""
        self._events = dict(known)
        self.rejected = set(rejected)

    def judge(self, events: Sequence[Event]) -> None:
        """Judge further events; those that are not allowed are in `rejected` then.

        One that rests on an event that is neither known nor was judged is rejected, too.
        """
        for event in events:
            if not self._is_allowed(event):
                self.rejected.add(event.event_id)
            self._events[event.event_id] = event

    def _is_allowed(self, event: Event) -> bool:
        cited = [self._events.get(event_id) for event_id in event.auth_event_ids]
        auth = [each for each in cited if each is not None]
        if len(auth) < len(cited):
            return False
        state = {each.key: each for each in auth if each.key is not None}
        if event.room_version.room_id_is_create_hash and event.type != "m.room.create":
            create = self._events.get(create_id_of(event))
            if create is None:
                return False
            state[CREATE] = create
        try:
            auth_rules.check_auth_events(event, auth, self.rejected)
            auth_rules.check(event, state, event.room_version)
        except auth_rules.Rejected:
            return False
        return True


# --- many, in a process of their own ---------------------------------------------------------------------------------

JUDGED_GRAPH: Final = "homeserver.graph.write.auth_order:judged_graph"


class Verdict(msgspec.Struct, array_like=True):
    """What `judged_graph` says."""

    ordered: list[EventId]
    """Each after those that it rests on; the circular ones last."""
    rejected: set[EventId]
    """Of those that were judged."""


class _Given(msgspec.Struct, array_like=True):
    event_id: EventId
    room_id: RoomId
    pdu: bytes
    rejected: bool


_encode = msgspec.msgpack.Encoder().encode
_decode_version = msgspec.msgpack.Decoder(str).decode
_decode_given = msgspec.msgpack.Decoder(list[_Given]).decode
decode_verdict = msgspec.msgpack.Decoder(Verdict).decode


def frame_of(events: Iterable[Event], rejected: Collection[EventId] = ()) -> bytes:
    """Some events, as `judged_graph` is given them."""
    given = [_Given(each.event_id, each.room_id, each.pdu, each.event_id in rejected) for each in events]
    return _encode(given)


def first_frame(version: str, known: bytes) -> list[bytes]:
    """What comes before the events that are to be judged: their room version, and (a frame) what is known already."""
    return [_encode(version), known]


def judged_graph(frames: Sequence[bytes]) -> bytes:
    """Put events in order and judge them by their auth events. `frames`: `first_frame`, then events."""
    version = ROOM_VERSIONS[_decode_version(frames[0])]

    def events_of(given: Iterable[_Given]) -> list[Event]:
        return [event_from_storage(each.pdu, each.event_id, each.room_id, version) for each in given]

    known = _decode_given(frames[1])
    judge = AuthJudge(
        {each.event_id: each for each in events_of(known)},
        {each.event_id for each in known if each.rejected},
    )
    ordered = in_auth_order(event for frame in frames[2:] for event in events_of(_decode_given(frame)))
    judge.rejected.update(event.event_id for event in ordered.circular)
    judge.judge(ordered.events)
    everything = [event.event_id for event in (*ordered.events, *ordered.circular)]
    return _encode(Verdict(everything, judge.rejected.intersection(everything)))
