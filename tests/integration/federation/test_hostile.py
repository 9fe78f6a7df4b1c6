"""What a hostile or broken server sends: nothing is accepted that the rules refuse, nobody else is harmed, and it stays small."""

import asyncio
import resource
import time
from typing import Any

import pytest

from federation.inbound import held, missing
from homeserver.events.builder import reference_to
from homeserver.events.event import Event
from homeserver.graph.refs import REJECTED
from homeserver.matrix import base64
from homeserver.matrix.ids import EventId, UserId
from homeserver.matrix.signing import SigningKey
from tests.integration.federation.test_send import PUBLIC, joined
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.user import User

OTHER_KEY = SigningKey(b"\x07" * 32, "a_1")


async def good_one(room: RemoteRoom) -> None:
    """What is good comes, whatever came before it."""
    event = room.says("bob", "m.room.message", TEXT)
    await room.send(event)
    (persisted,) = await room.arrives(event)
    assert not persisted.flags


@pytest.mark.parametrize("version", ["2", "6", "12"])
async def test_forged_and_missing_signatures_are_dropped(federation: Federation, version: str) -> None:
    """FED-10, FED-11: step 2."""
    _, _, room = await joined(federation, version)
    tip = [room.tip]
    forged = room.says("bob", "m.room.message", TEXT, prev=tip, signing_key=OTHER_KEY)
    unsigned = {**room.says("bob", "m.room.message", {"n": 1}, prev=tip).fields, "signatures": {}}
    of_alice = room.says("@alice:localhost:1", "m.room.message", {"n": 2}, prev=tip)
    other_name = dict(room.says("bob", "m.room.message", {"n": 3}, prev=tip).fields)
    other_name["signatures"] = {"localhost:1": other_name["signatures"][room.remote.name]}
    wrong = dict(room.says("bob", "m.room.message", {"n": 4}, prev=tip).fields)
    wrong["signatures"] = {room.remote.name: {room.remote.key.key_id: base64.encode(bytes(64))}}
    await room.send(forged, unsigned, of_alice, other_name, wrong)
    await room.send({**wrong, "signatures": {room.remote.name: {"ed25519:none": "AAAA"}}})
    await good_one(room)
    await asyncio.sleep(0.3)
    ids = [forged.event_id, of_alice.event_id]
    assert not await room.core.events.places(ids)


async def test_a_forged_copy_does_not_keep_the_good_one_away(federation: Federation) -> None:
    """Ids do not depend on signatures: another server sends the event first, with a signature that is none."""
    _, _, room = await joined(federation)
    second = await federation.remote()
    event = room.says("bob", "m.room.message", TEXT)
    forged = {
        **event.fields,
        "signatures": {room.remote.name: {room.remote.key.key_id: base64.encode(bytes(64))}},
    }
    hostile = RemoteRoom(room.here, second, room.room_id)
    for _ in range(10):  # again and again, while the first ones are finished: no two lock each other out
        await asyncio.gather(hostile.send(forged), room.send(event), hostile.send(forged))
    (persisted,) = await room.arrives(event)
    assert persisted.event.fields["signatures"] == event.fields["signatures"]


async def test_a_wrong_hash_leaves_the_redacted_event(federation: Federation) -> None:
    """FED-10: step 3."""
    _, alice, room = await joined(federation)
    event = room.says("bob", "m.room.message", TEXT)
    fields = {**event.fields, "content": {**TEXT, "body": "not what was hashed"}}
    await room.send(fields)
    (persisted,) = await room.arrives(event)
    assert persisted.event.content == {}
    assert (await alice.event(room.room_id, event.event_id))["content"] == {}


async def test_what_the_rules_refuse_is_rejected(federation: Federation) -> None:
    """FED-10, FED-12: steps 4 and 5. Dendrite takes events whose auth events are missing, or more than they need."""
    _, alice, room = await joined(federation)
    tip = [room.tip]
    state, bob = room.state_before(tip), room.remote.user("bob")
    needed = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", bob)]
    one_too_many = [reference_to(room.events[state[key]]) for key in (*needed, ("m.room.join_rules", ""))]
    refused = [
        room.says(
            "bob", "m.room.power_levels", {"users": {room.remote.user("bob"): 100}}, state_key="", prev=tip
        ),
        room.says("bob", "m.room.member", {"membership": "ban"}, state_key=alice.user_id, prev=tip),
        room.says("stranger", "m.room.message", TEXT, prev=tip),
        room.says("bob", "m.room.message", TEXT, prev=tip, auth=[]),
        room.says("bob", "m.room.message", TEXT, prev=tip, auth=one_too_many),
        room.says("bob", "m.room.name", {"name": "mine"}, state_key="", prev=tip),
    ]
    await room.send(*refused)
    arrived = await room.arrives(*refused)
    assert all(persisted.flags & REJECTED for persisted in arrived)
    page = await alice.messages(room.room_id, limit=100)
    assert not {event.event_id for event in refused} & {each["event_id"] for each in page["chunk"]}
    room.after[refused[0].event_id] = room.after[tip[0].event_id]
    after = room.says("bob", "m.room.message", TEXT, prev=[refused[0]])
    await room.send(after)
    (persisted,) = await room.arrives(after)
    assert not persisted.flags  # judged on its own: the state before it is that before the rejected one
    await good_one(room)


@pytest.mark.parametrize("field", ["prev", "auth"])
async def test_too_many_references_are_refused(federation: Federation, field: str) -> None:
    """EVT-24. Dendrite takes them."""
    _, _, room = await joined(federation)
    many = [EventId(f"${n:043d}") for n in range(21)]
    event = room.says("bob", "m.room.message", TEXT, prev=[room.tip])
    answer = await room.send({**event.fields, f"{field}_events": many})
    assert not any(result == {} for result in answer["pdus"].values())
    assert not await room.staged()
    await good_one(room)


async def test_circles_are_dropped(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room versions 1 and 2 let servers choose ids: a refers to b, b to a, c to itself."""
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.02)
    _, _, room = await joined(federation, "2")
    name, tip = room.remote.name, [room.tip]

    def circle(own: str, other: str) -> dict[str, Any]:
        event = room.says("bob", "m.room.message", TEXT, prev=tip)
        fields = dict(event.fields)
        fields["event_id"] = f"${own}:{name}"
        fields["prev_events"] = [[f"${other}:{name}", {"sha256": "A" * 43}]]
        return signed(room, fields)

    await room.send(circle("a", "b"), circle("b", "a"), circle("c", "c"))
    await room.drained()
    assert not await room.core.events.places([f"$a:{name}", f"$b:{name}", f"$c:{name}"])
    await good_one(room)


def signed(room: RemoteRoom, fields: dict[str, Any]) -> dict[str, Any]:
    """An event of rooms 1 and 2 as changed, hashed and signed again."""
    from homeserver.events.hashing import content_hash, signed_bytes

    fields["hashes"] = {"sha256": content_hash(fields)}
    signature = room.remote.key.signature_of(signed_bytes(fields, room.tip.room_version))
    fields["signatures"] = {room.remote.name: {room.remote.key.key_id: signature}}
    return fields


async def test_ids_that_are_taken(federation: Federation) -> None:
    """Room versions 1 and 2: one id for two events, in one room and in two, and one that looks like a hash of later versions."""
    _, alice, room = await joined(federation, "2")
    other_id = await alice.create_room(room_version="2", **PUBLIC)
    other = await RemoteRoom.join(room.here, room.remote, other_id, "bob")
    late_id = await alice.create_room(room_version="12", **PUBLIC)
    late = await RemoteRoom.join(room.here, room.remote, late_id, "bob")
    victim = late.says("bob", "m.room.message", TEXT)
    name = room.remote.name

    def called(where: RemoteRoom, event_id: str, body: str) -> dict[str, Any]:
        event = where.says("bob", "m.room.message", {**TEXT, "body": body}, prev=[where.tip])
        return signed(where, {**event.fields, "event_id": event_id})

    taken = f"$taken:{name}"
    await room.send(called(room, taken, "first"))
    await room.drained()
    await room.send(called(room, taken, "second"), called(other, taken, "third"))
    await room.send(
        called(room, victim.event_id, "in front"), called(room, f"{victim.event_id}:{name}", "beside")
    )
    await room.drained()
    (first,) = (await room.core.events.load([(await room.core.events.numbers([taken]))[taken]])).values()
    assert first.event.content["body"] == "first"
    assert first.room_nid == (await room.core.rooms.known(room.room_id)).name.nid
    await late.send(victim)
    (persisted,) = await late.arrives(victim)
    assert persisted.event.content == TEXT
    await good_one(room)
    await good_one(other)


async def test_events_of_other_rooms_are_no_parents(federation: Federation) -> None:
    """An event that stands on one of another room would bring that room's state into this one."""
    _, alice, room = await joined(federation)
    other_id = await alice.create_room(**PUBLIC)
    other = await RemoteRoom.join(room.here, room.remote, other_id, "bob")
    foreign = other.says("bob", "m.room.message", TEXT)
    await other.send(foreign)
    await other.arrives(foreign)
    room.after[foreign.event_id] = room.after[room.tip.event_id]
    event = room.says("bob", "m.room.message", TEXT, prev=[foreign])
    by_auth = room.says("bob", "m.room.message", TEXT, prev=[room.tip], auth=[foreign.event_id])
    await room.send(event, by_auth)
    await room.drained()
    assert not await room.core.events.places([event.event_id, by_auth.event_id])
    await good_one(room)


async def test_depth_and_time_are_only_numbers(federation: Federation) -> None:
    """Dendrite breaks for good on a depth of 2^53-1, or an event without content."""
    _, alice, room = await joined(federation)
    far = 2**53 - 1
    soon = int(time.time() * 1000) + 3_600_000
    beyond = room.says("bob", "m.room.message", TEXT, prev=[room.tip], origin_server_ts=far)
    events = [
        room.says("bob", "m.room.message", {**TEXT, "body": "deep"}, depth=far),
        room.says("bob", "m.room.message", {**TEXT, "body": "after"}, depth=far),
        room.says("bob", "m.room.message", {**TEXT, "body": "future"}, origin_server_ts=soon, depth=0),
        room.says("bob", "m.room.message", {**TEXT, "body": "past"}, origin_server_ts=0),
    ]
    without = dict(room.says("bob", "m.room.message", TEXT, prev=[room.tip]).fields)
    del without["content"]
    broken = [{**without, "content": None}, {**without, "content": []}]
    answer = await room.send(beyond, *events, without, *broken)
    assert all(answer["pdus"][event.event_id] == {} for event in events)
    await room.arrives(*events)
    await alice.send(room.room_id, "we go on")
    reply = await alice.sync(since=None)
    timeline = reply["rooms"]["join"][room.room_id]["timeline"]["events"]
    assert timeline[-1]["content"]["body"] == "we go on"
    # No key is valid at that time (EVT-06): it waits for one until it is given up.
    assert not await room.core.events.places([beyond.event_id])


async def test_duplicates_are_one(federation: Federation) -> None:
    _, _, room = await joined(federation)
    event = room.says("bob", "m.room.message", TEXT)
    await room.send(*[event] * 50)
    await asyncio.gather(*(room.send(event) for _ in range(3)))
    await room.arrives(event)
    await room.drained()
    async with room.core.db.read() as tx:
        count = await tx.value("SELECT count(*) FROM events WHERE event_id = %(id)s", id=event.event_id)
    assert count == 1


async def test_a_flood_of_unknown_rooms_costs_little(federation: Federation) -> None:
    """2 500 events of rooms that are not here: nothing is staged, nothing is kept."""
    _, _, room = await joined(federation)
    template = dict(room.says("bob", "m.room.message", TEXT, prev=[room.tip]).fields)
    began = time.process_time()
    for number in range(50):
        await room.send(*({**template, "room_id": f"!{number}-{n}:nowhere"} for n in range(50)))
    spent = time.process_time() - began
    print(f"2 500 events of unknown rooms: {spent * 1000:.0f} ms of CPU, both sides")
    assert not await room.staged()
    await good_one(room)


async def send_again_when_told(room: RemoteRoom, number: int, events: list[Event]) -> None:
    """As servers do: an origin that has too much staged comes back."""
    body = {"pdus": [dict(event.fields) for event in events]}
    while True:
        code, _ = await room.remote.ask(room.here, "PUT", f"/_matrix/federation/v1/send/x{number}", body)
        if code == 200:
            return
        assert code == 429
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.load)])
async def test_many_extremities(federation: Federation, count: int) -> None:
    """Events beside each other on one: each is taken, the room goes on, its messages name no more than 20 of them."""
    _, alice, room = await joined(federation)
    tip = [room.tip]
    events = [room.says("bob", "m.room.message", {**TEXT, "body": str(n)}, prev=tip) for n in range(count)]
    began, cpu = time.monotonic(), time.process_time()
    for start in range(0, count, 50):
        await send_again_when_told(room, start, events[start : start + 50])
    await room.arrives(*events, within=240)
    took, spent = time.monotonic() - began, time.process_time() - cpu
    print(f"{count} extremities: {took:.1f} s, {spent:.1f} s of CPU, both sides")
    known = await room.core.rooms.known(room.room_id)
    print(f"extremities left: {len(known.extremities)}")
    event_id = await alice.send(room.room_id, "on all of them")
    sent = await room.core.events.by_id(event_id)
    assert sent is not None
    assert len(sent.event.prev_event_ids) <= 20


@pytest.mark.parametrize("length", [3_000, pytest.param(100_000, marks=pytest.mark.load)])
async def test_a_deep_chain_whose_beginning_is_missing(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """The origin gives ever older events and never what is here: bounded in requests; nothing is taken on faith."""
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.05)
    _, _, room = await joined(federation)
    deep: list[Event] = []
    for _ in range(length // 1_000):
        deep += room.chain("bob", 1_000)
        await asyncio.sleep(0)
    room.hidden.add(deep[0].event_id)
    room.serve()
    began, cpu = time.monotonic(), time.process_time()
    await room.send(deep[-1])
    (persisted,) = await room.arrives(deep[-1], within=60)
    assert not persisted.flags
    asked = len(room.remote.requests("POST", "/_matrix/federation/v1/get_missing_events/*"))
    print(
        f"a chain of {length}, its beginning hidden: {asked} requests for events between,"
        f" {time.monotonic() - began:.1f} s, {time.process_time() - cpu:.1f} s of CPU, both sides"
    )
    assert asked <= 20
    await good_one(room)


async def test_memory_stays_small_while_much_is_staged(federation: Federation) -> None:
    """5 000 events of 20 kB that wait for one that nobody has."""
    _, _, room = await joined(federation)
    missing = room.says("bob", "m.room.message", TEXT)
    room.hidden.add(missing.event_id)
    filler = "x" * 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent: list[Event] = []
    for number in range(20):
        batch = [
            room.says("bob", "m.room.message", {"body": filler, "n": number * 50 + n}, prev=[missing])
            for n in range(50)
        ]
        sent += batch[:1]
        await room.send(*batch)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"1 000 events of 20 kB staged: {(after - before) / 1024:.0f} MiB more at most, both sides")
    other = await federation.remote()
    theirs = RemoteRoom(room.here, other, room.room_id)
    await theirs.look()
    carol = theirs.says(
        "carol", "m.room.member", {"membership": "join"}, state_key=UserId(other.user("carol"))
    )
    await theirs.send(carol)
    await theirs.arrives(carol, within=20)
    assert not await room.core.events.places([event.event_id for event in sent])


async def with_large_state(federation: Federation, entries: int) -> tuple[User, RemoteRoom, Event]:
    """A room, and an event that stands on one that nobody has, with so many state events before it that are not here."""
    _, alice, room = await joined(federation)
    room.serve()
    power = {"users_default": 100}
    await alice.put_state(room.room_id, "m.room.power_levels", {"users": {}, **power})
    await room.look()
    tip, state = room.tip, dict(room.after[room.tip.event_id])
    hidden = room.says("bob", "m.room.message", TEXT, prev=[tip])
    for number in range(entries):
        entry = room.says("bob", "org.example.entry", {}, state_key=str(number), prev=[tip])
        room.after[entry.event_id] = {}
        state["org.example.entry", str(number)] = entry.event_id
        if number % 500 == 0:
            await asyncio.sleep(0)
    room.hidden.add(hidden.event_id)
    room.after[hidden.event_id] = state
    return alice, room, room.says("bob", "m.room.message", TEXT, prev=[hidden])


@pytest.mark.parametrize(
    ("entries", "seconds"), [(5_500, 30), pytest.param(99_000, 240, marks=pytest.mark.load)]
)
async def test_a_large_state_before_an_event_is_taken(
    federation: Federation, entries: int, seconds: float
) -> None:
    """As large as a room that is joined may have; others go on meanwhile."""
    alice, room, event = await with_large_state(federation, entries)
    before, cpu, began = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.process_time(),
        time.monotonic(),
    )
    await room.send(event)
    arriving = asyncio.create_task(room.arrives(event, within=seconds))
    slowest = 0.0
    while not arriving.done():
        asked = time.monotonic()
        await alice.send(room.room_id, "meanwhile")
        slowest = max(slowest, time.monotonic() - asked)
        await asyncio.sleep(0.2)
    (persisted,) = await arriving
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"a state of {entries} entries: {time.monotonic() - began:.1f} s, {time.process_time() - cpu:.0f} s of CPU,"
        f" {(after - before) / 1024:.0f} MiB at most, both sides; the slowest message beside it {slowest:.2f} s"
    )
    assert not persisted.flags
    known = await room.core.rooms.known(room.room_id)
    assert sum(key[0] == "org.example.entry" for key in known.state) == entries


async def test_a_state_that_is_too_large_is_not_fetched(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose state the origin has made up: the event is not taken, others go on meanwhile."""
    monkeypatch.setattr(held, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(missing, "MAX_STATE", 500)
    alice, room, event = await with_large_state(federation, 600)
    await room.send(event)
    began = time.monotonic()
    asked = "/_matrix/federation/v1/state_ids/*"
    while time.monotonic() - began < (2 if room.remote.requests("GET", asked) else 60):
        await alice.send(room.room_id, "meanwhile")
        await asyncio.sleep(0.1)
    assert not await room.core.events.places([event.event_id])
    assert room.remote.requests("GET", asked)
    assert not room.remote.requests("GET", "/_matrix/federation/v1/state/*")
