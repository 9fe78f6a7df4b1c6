"""Events checked and judged by the hundreds, in processes: the same is said of them as of each alone (FED-10, FED-11)."""

from __future__ import annotations

import json
from typing import Any

from federation.ports import Checked, Dropped
from homeserver.events.event import Event
from homeserver.events.packing import unpack
from homeserver.graph.write.auth_order import (
    AuthJudge,
    decode_verdict,
    first_frame,
    frame_of,
    in_auth_order,
    judged_graph,
)
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom


def spoilt(event: Event, number: int) -> bytes:
    """In another way each."""
    fields: dict[str, Any] = json.loads(event.pdu)
    match number // 3 % 8:
        case 0:
            fields["content"]["displayname"] = "somebody else"  # its hash is wrong: it is redacted
        case 1:
            fields["origin_server_ts"] += 1  # its signature is wrong
        case 2:
            fields["signatures"] = {}
        case 3:
            del fields["depth"]
        case 4:
            return b"[1, 2"
        case 5:
            fields["signatures"] = {"gone.invalid": {"ed25519:x": "A" * 86}}
            fields["sender"] = "@a:gone.invalid"  # its keys cannot be had
        case 6:
            fields["sender"] = "@a:b\0"
            fields["signatures"]["c\0"] = {"ed25519:\0": "x"}
    return json.dumps(fields).encode()


def told(results: list[Checked | Dropped]) -> list[Any]:
    return [(each.event.event_id, each.event.pdu) if isinstance(each, Checked) else each for each in results]


async def test_many_are_checked_like_each_alone(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    assert here.app is not None
    checker = here.app.features.federation.checker
    room = RemoteRoom(remote, "11")
    room.members(450)
    pdus = [
        spoilt(event, number) if number % 3 == 0 else event.pdu for number, event in enumerate(room.events)
    ]
    together = await checker.check(pdus, room.version)
    alone = [
        each
        for start in range(0, len(pdus), 100)
        for each in await checker.check(pdus[start : start + 100], room.version)
    ]
    assert told(together) == told(alone)
    kinds = {(type(each).__name__, getattr(each, "retry", False)) for each in together}
    assert kinds == {("Checked", False), ("Dropped", False), ("Dropped", True)}
    for each in together:
        if isinstance(each, Checked):
            assert each.stored is not None
            assert unpack(each.stored, each.event.room_id) == each.event.pdu


async def test_many_are_judged_like_each_alone(federation: Federation) -> None:
    remote = await federation.remote()
    room = RemoteRoom(remote, "11")
    room.members(20)
    banned = remote.user("member3")
    room.member(banned, "ban", by=room.creator)
    room.member(banned, "join")  # which the ban does not allow
    room.member(remote.user("member4"), "leave")
    events = room.events[::-1]
    ordered = in_auth_order(events)
    judge = AuthJudge({}, set())
    judge.judge(ordered.events)
    frames = first_frame("11", frame_of([]))
    frames += [frame_of(events[start : start + 7]) for start in range(0, len(events), 7)]
    verdict = decode_verdict(judged_graph(frames))
    assert verdict.ordered == [event.event_id for event in ordered.events]
    assert verdict.rejected == judge.rejected != set()
    # with some of them known already
    known = ordered.events[:5]
    frames = [*first_frame("11", frame_of(known, {known[0].event_id})), frame_of(ordered.events[5:])]
    assert decode_verdict(judged_graph(frames)).rejected == {each.event_id for each in ordered.events[5:]}
