"""Events that refer to what is not here: it is fetched, from whoever has it, within bounds, and reaches clients."""

import asyncio
from typing import Any

import pytest
from psycopg.errors import QueryCanceled

from federation.inbound import held
from homeserver.graph.refs import OUTLIER, REJECTED, SOFT_FAILED
from tests.integration.federation.test_send import PUBLIC, joined
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.remote_server import Asked, status

V1 = "/_matrix/federation/v1"


async def test_events_between_are_fetched_and_reach_clients(federation: Federation) -> None:
    """FED-14, FED-15. Of Synapse it was seen that they never do."""
    _, alice, room = await joined(federation)
    room.serve()
    await alice.sync()
    chain = room.chain("bob", 60)
    assert await room.send(chain[-1]) == {"pdus": {chain[-1].event_id: {}}}
    await room.arrives(*chain)
    reply = await alice.sync(timeout=0)
    timeline = reply["rooms"]["join"][room.room_id]["timeline"]
    seen = [event["event_id"] for event in timeline["events"]]
    while timeline.get("limited") and len(seen) < 60:
        page = await alice.messages(room.room_id, **{"from": timeline["prev_batch"], "limit": 100})
        seen = [*reversed([event["event_id"] for event in page["chunk"]]), *seen]
        timeline = {"prev_batch": page.get("end"), "limited": page.get("end") and len(seen) < 60}
    assert [each for each in seen if each in {event.event_id for event in chain}] == [
        event.event_id for event in chain
    ]


async def test_a_gap_that_is_too_long_is_bridged_by_the_state(federation: Federation) -> None:
    """FED-14: what lies between is not to be had (or too much); the state before the event is asked for."""
    _, alice, room = await joined(federation)
    room.serve()
    topic = room.says("bob", "m.room.message", TEXT)
    carol = room.says("carol", "m.room.member", {"membership": "join"}, state_key=room.remote.user("carol"))
    chain = room.chain("carol", 3)
    room.hidden |= {topic.event_id, chain[0].event_id}
    room.remote.answers("POST", f"{V1}/get_missing_events/*", {"events": []})
    await room.send(chain[-1])
    (persisted,) = await room.arrives(chain[-1])
    assert not persisted.flags
    places = await room.core.events.places([carol.event_id, topic.event_id])
    assert places[carol.event_id].flags & OUTLIER
    assert topic.event_id not in places
    members = await alice.members(room.room_id)
    assert members[room.remote.user("carol")] == "join"


async def test_a_gap_of_ones_own_making_does_not_evade_a_ban(federation: Federation) -> None:
    """FED-13: bob is banned; his server tells a state in which he is not, before an event whose parent nobody has."""
    _, alice, room = await joined(federation)
    room.serve()
    room.remote.answers("POST", f"{V1}/get_missing_events/*", {"events": []})
    await alice.ban(room.room_id, room.remote.user("bob"))
    parent = room.says("bob", "m.room.message", TEXT)
    room.hidden.add(parent.event_id)
    event = room.says("bob", "m.room.message", TEXT)
    await room.send(event)
    (persisted,) = await room.arrives(event)
    assert persisted.flags & SOFT_FAILED
    assert (await alice.members(room.room_id))[room.remote.user("bob")] == "ban"


async def test_missing_auth_events_are_fetched(federation: Federation) -> None:
    """FED-14: the previous event is here, what allows the event is not."""
    _, _, room = await joined(federation)
    room.serve()
    before = room.tip
    carol = room.says(
        "carol", "m.room.member", {"membership": "join"}, state_key=room.remote.user("carol"), prev=[before]
    )
    # Built where carol has joined already, but on an event of before that: rejected by the state, not lost.
    room.after[before.event_id] = room.after[carol.event_id]
    event = room.says("carol", "m.room.message", TEXT, prev=[before])
    await room.send(event)
    (persisted,) = await room.arrives(event)
    assert persisted.flags & REJECTED
    assert (await room.core.events.places([carol.event_id]))[carol.event_id].flags & OUTLIER


async def test_others_are_asked_when_the_origin_does_not_know(federation: Federation) -> None:
    _, _, room = await joined(federation)
    second = await federation.remote()
    other = RemoteRoom(room.here, second, room.room_id)
    await other.look()
    carol = other.says("carol", "m.room.member", {"membership": "join"}, state_key=second.user("carol"))
    await other.send(carol)
    await other.arrives(carol)
    await room.look()
    chain = room.chain("bob", 5)
    other.events.update(room.events)
    other.after.update(room.after)
    other.serve()  # the origin itself says 404 to everything
    await room.send(chain[-1])
    await room.arrives(*chain)
    assert room.remote.requests("POST", f"{V1}/get_missing_events/*")


async def test_what_cannot_be_fetched_is_tried_again_and_not_forgotten(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.3)
    _, _, room = await joined(federation)
    chain = room.chain("bob", 3)
    for method in ("GET", "POST"):
        room.remote.answers(method, f"{V1}/*", status(500, {"errcode": "M_UNKNOWN", "error": "down"}))
    await room.send(chain[-1])
    async with asyncio.timeout(60):
        while True:
            async with room.core.db.read() as tx:
                attempts = await tx.value("SELECT max(attempts) FROM federation_staged")
            if attempts:
                break
            await asyncio.sleep(0.02)
    room.remote._scripts.clear()
    room.serve()
    await room.arrives(*chain)
    await room.drained()


async def test_what_nobody_has_is_given_up(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.02)
    _, _, room = await joined(federation)
    chain = room.chain("bob", 4)
    await room.send(chain[1], chain[3])
    await room.drained()
    assert not await room.core.events.places([event.event_id for event in chain])


async def test_what_waits_for_a_gap_delays_nobody(federation: Federation) -> None:
    """The origin of one event drips; others of the same room, and other rooms of the same origin, come at once."""
    _, alice, room = await joined(federation)
    other_id = await alice.create_room(**PUBLIC)
    other = await RemoteRoom.join(room.here, room.remote, other_id, "bob")
    second = await federation.remote()
    third = RemoteRoom(room.here, second, room.room_id)
    await third.look()
    carol = third.says("carol", "m.room.member", {"membership": "join"}, state_key=second.user("carol"))
    go_on = asyncio.Event()

    async def slow(asked: Asked) -> Any:
        del asked
        await go_on.wait()
        return status(404, {"errcode": "M_NOT_FOUND", "error": ""})

    for method in ("GET", "POST"):
        room.remote.answers(method, f"{V1}/*", slow)
    chain = room.chain("bob", 2)
    try:
        await room.send(chain[-1])
        await asyncio.sleep(0.3)
        await third.send(carol)
        await third.arrives(carol, within=20)
        event = other.says("bob", "m.room.message", TEXT)
        await other.send(event)
        await other.arrives(event, within=20)
        await alice.send(room.room_id, "so do we")
    finally:
        go_on.set()


async def test_a_banned_user_on_an_old_branch_is_soft_failed(federation: Federation) -> None:
    """FED-13: Dendrite shows it in /messages."""
    _, alice, room = await joined(federation)
    before = room.tip
    await alice.ban(room.room_id, room.remote.user("bob"))
    event = room.says("bob", "m.room.message", {**TEXT, "body": "evading"}, prev=[before])
    await room.send(event)
    (persisted,) = await room.arrives(event)
    assert persisted.flags & SOFT_FAILED
    page = await alice.messages(room.room_id, limit=50)
    assert all(each["event_id"] != event.event_id for each in page["chunk"])
    after = room.says("bob", "m.room.message", TEXT, prev=[event])
    await room.send(after)
    (persisted,) = await room.arrives(after)
    assert persisted.flags & SOFT_FAILED


async def test_what_takes_the_database_too_long_is_given_up_and_others_go_on(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that is cancelled is no database that is away: else the room would try the same for ever."""
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.02)
    _, _, room = await joined(federation)
    assert room.here.app is not None
    inbound = room.here.app.features.federation_inbound.inbound
    parts = inbound._parts
    assert parts is not None
    bad = room.says("bob", "m.room.message", {**TEXT, "body": "heavy"}, prev=[room.tip])

    class Cancelling:
        async def receive_many(self, room_nid: int, events: Any, **more: Any) -> Any:
            if any(event.event_id == bad.event_id for event in events):
                raise QueryCanceled("canceling statement due to statement timeout")
            return await parts.receiver.receive_many(room_nid, events, **more)

    inbound.work_with(parts._replace(receiver=Cancelling()))
    good = room.says("bob", "m.room.message", TEXT)
    await room.send(bad, good)
    await room.arrives(good)
    await room.drained()
    assert not await room.core.events.places([bad.event_id])
