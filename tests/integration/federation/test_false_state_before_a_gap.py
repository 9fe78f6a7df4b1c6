"""A server tells an older state before a branch of its own: state resolution 2.1 keeps what the room has agreed on, and the branch
arrives (STATE-09, FED-14). As Complement's `TestMSC4297StateResolutionV2_1_…` ask, with fewer events.
"""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from federation.inbound import missing
from homeserver.events.event import Event
from homeserver.matrix.ids import EventId
from tests.integration.federation.test_send import joined
from tests.support.federation import Federation
from tests.support.remote_room import RemoteRoom
from tests.support.remote_server import Asked
from tests.support.waiting import until

V1 = "/_matrix/federation/v1"
TOLD = 10
LENGTH = 40


def tells(
    room: RemoteRoom, branch: Sequence[Event], state: Sequence[EventId], auth: Sequence[EventId]
) -> None:
    """Ten events before each that is asked for, and `state` with the one before as the state before each."""
    room.serve()
    places = {event.event_id: place for place, event in enumerate(branch)}

    def between(asked: Asked) -> Any:
        place = places[asked.json["latest_events"][0]]
        return {"events": [room.pdu(each.event_id) for each in branch[max(place - TOLD, 0) : place]]}

    def before(asked: Asked) -> Any:
        place = places[EventId(asked.query["event_id"])]
        ids = [*state, branch[place - 1].event_id]
        return {"pdu_ids": ids, "auth_chain_ids": [*room.auth_chain(ids), *auth]}

    room.remote.answers("POST", f"{V1}/get_missing_events/*", between)
    room.remote.answers("GET", f"{V1}/state_ids/*", before)


def renamed(room: RemoteRoom, who: str, first: Event | None) -> list[Event]:
    """A line of changes of one's name, from the newest event or from `first`, each later than the one before: of two at the same
    time the one with the greater id stands.
    """
    line: list[Event] = []
    now, key = int(time.time() * 1000), room.remote.user(who)
    for number in range(LENGTH):
        content = {"membership": "join", "displayname": f"{number}"}
        prev = line[-1:] or ([first] if first is not None else None)
        line.append(
            room.says(
                who, "m.room.member", content, state_key=key, prev=prev, origin_server_ts=now + 1 + number
            )
        )
    return line


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "MAX_ROUNDS", 2)


async def test_state_09_rules_whose_author_has_left_are_kept(federation: Federation) -> None:
    """Alice closes the room and leaves; Bob's server tells the open rules: replayed, the newer ones stand all the same."""
    here, alice, room = await joined(federation, "12")
    dan = await here.register("dan")
    await dan.join(room.room_id)
    await room.look()
    rules_key, alice_key = ("m.room.join_rules", ""), ("m.room.member", alice.user_id)
    earlier = dict(room.after[room.tip.event_id])
    await alice.put_state(room.room_id, "m.room.join_rules", {"join_rule": "invite"})
    await alice.leave(room.room_id)
    await room.look()
    line = renamed(room, "bob", None)
    now = room.after[room.tip.event_id]
    kept = [
        each
        for key, each in now.items()
        if key not in {rules_key, ("m.room.member", room.remote.user("bob"))}
    ]
    tells(room, line, [*kept, earlier[rules_key]], [earlier[alice_key]])
    await room.send(line[-1])
    await room.arrives(*line[LENGTH - 1 - 2 * TOLD :])
    await room.drained()
    assert (await dan.state(room.room_id, "m.room.join_rules"))["join_rule"] == "invite"
    assert (await dan.members(room.room_id))[alice.user_id] == "leave"

    async def named() -> bool:
        member = await dan.state(room.room_id, "m.room.member", room.remote.user("bob"))
        return bool(member["displayname"] == f"{LENGTH - 1}")

    await until(named, within=60)


async def test_state_09_levels_in_the_conflicted_subgraph_are_kept(federation: Federation) -> None:
    """Anna, whom the levels name, lets Dan change them, and Dan lets Bob; Eve's server tells the first."""
    here, alice, room = await joined(federation, "12")
    anna, dan = await here.register("anna"), await here.register("dan")
    bob = room.remote.user("bob")
    for each in (anna, dan):
        await each.join(room.room_id)
    await alice.put_state(room.room_id, "m.room.power_levels", {"users": {anna.user_id: 100}})
    await room.look()
    first = dict(room.after[room.tip.event_id])
    second = {anna.user_id: 100, dan.user_id: 50}
    await anna.put_state(room.room_id, "m.room.power_levels", {"users": second})
    third = {**second, bob: 50}
    await dan.put_state(room.room_id, "m.room.power_levels", {"users": third})
    await room.look()
    eve = room.remote.user("eve")
    comes = room.says("eve", "m.room.member", {"membership": "join"}, state_key=eve)
    await (await here.register("zara")).join(room.room_id)
    await room.send(comes)
    await room.arrives(comes)
    line = renamed(room, "eve", comes)
    kept = [each for key, each in first.items() if key != ("m.room.member", eve)]
    tells(room, line, kept, [comes.event_id])
    await room.send(line[-1])
    await room.arrives(*line[LENGTH - 1 - 2 * TOLD :])
    await room.drained()
    assert (await alice.state(room.room_id, "m.room.power_levels"))["users"] == third
