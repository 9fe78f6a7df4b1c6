"""Finding an event by the time it was sent at: CHECKLIST ROOM-24."""

from typing import Any

import psycopg
import pytest

from tests.support.server import Server
from tests.support.user import User

FIND = "/_matrix/client/v1/rooms/{}/timestamp_to_event"
FAR = 2**52


async def find(user: User, room: str, ts: int, direction: str, *, expect: Any = 200) -> Any:
    reply = await user.get(FIND, room, params={"ts": ts, "dir": direction}, expect=expect)
    return reply.get("event_id"), reply.get("origin_server_ts")


def sent_at(server: Server, times: dict[str, int]) -> None:
    """As events of other servers or bridges, which say when they were sent."""
    with psycopg.connect(server.dsn) as connection:
        for event_id, ts in times.items():
            connection.execute("UPDATE events SET origin_server_ts = %s WHERE event_id = %s", (ts, event_id))


async def test_the_closest_event_in_either_direction(server: Server) -> None:
    """ROOM-24: of equal times the one that is first on the way."""
    alice = await server.register("alice")
    room = await alice.create_room()
    one, two, three, four = [await alice.send(room, text) for text in ("one", "two", "three", "four")]
    base = (await alice.get("/rooms/{}/event/{}", room, four))["origin_server_ts"]
    hour = 3_600_000
    sent_at(server, {one: base + 3 * hour, two: base + hour, three: base + 2 * hour, four: base + 2 * hour})
    for ts, forwards, backwards in (
        (hour - 1, two, None),
        (hour, two, two),
        (hour + 1, three, two),
        (2 * hour, three, four),
        (2 * hour + 1, one, four),
        (3 * hour, one, one),
    ):
        assert (await find(alice, room, base + ts, "f"))[0] == forwards, ts
        if backwards:
            assert (await find(alice, room, base + ts, "b"))[0] == backwards, ts
    assert (await find(alice, room, base + 4 * hour, "b"))[0] == one
    await find(alice, room, base + 4 * hour, "f", expect=(404, "M_NOT_FOUND"))
    create = (await find(alice, room, 0, "f"))[0]
    assert (await alice.get("/rooms/{}/event/{}", room, create))["type"] == "m.room.create"
    await find(alice, room, 0, "b", expect=(404, "M_NOT_FOUND"))
    for ts in (FAR, -FAR):
        await find(alice, room, ts, "f" if ts > 0 else "b", expect=(404, "M_NOT_FOUND"))


async def test_what_is_asked_must_make_sense(server: Server) -> None:
    """ROOM-24."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    for params in (
        {"ts": 1},
        {"dir": "f"},
        {"ts": "x", "dir": "f"},
        {"ts": 2**70, "dir": "f"},
        {"ts": 1, "dir": "up"},
    ):
        await alice.get(FIND, room, params=params, expect=400)
    await find(bob, room, 1, "f", expect=(403, "M_FORBIDDEN"))
    await find(alice, "!nothing:localhost", 1, "f", expect=(403, "M_FORBIDDEN"))
    unstable = "/_matrix/client/unstable/org.matrix.msc3030/rooms/{}/timestamp_to_event"
    assert (await alice.get(unstable, room, params={"ts": 1, "dir": "f"}))["event_id"]


@pytest.mark.parametrize("before", [3, 1_100])
async def test_only_what_the_reader_may_see_is_found(server: Server, before: int) -> None:
    """ROOM-24: also where more is hidden from them than is looked at one by one."""
    alice, bob = await server.register("alice"), await server.register("bob")
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room = await alice.create_room(preset="public_chat", initial_state=[hidden])
    first, *_ = [await alice.send(room, f"before {number}") for number in range(before)]
    since = (await alice.get("/rooms/{}/event/{}", room, first))["origin_server_ts"]
    await bob.join(room)
    seen = await alice.send(room, "seen")
    await bob.leave(room)
    for number in range(before):
        await alice.send(room, f"after {number}")
    found = (await find(bob, room, since, "f"))[0]
    assert (await bob.get("/rooms/{}/event/{}", room, found))["state_key"] == bob.user_id
    last = (await find(bob, room, FAR, "b"))[0]
    assert (await bob.get("/rooms/{}/event/{}", room, last))["content"]["membership"] == "leave"
    member = (await bob.get("/rooms/{}/event/{}", room, found))["origin_server_ts"]
    assert (await find(bob, room, member + 1, "f"))[0] in (seen, last, found)
    redacted = await alice.send(room, "gone")
    await alice.redact(room, redacted)
    await find(bob, room, FAR, "f", expect=(404, "M_NOT_FOUND"))


async def test_anybody_finds_events_of_rooms_that_anybody_may_read(server: Server) -> None:
    """ROOM-24, PEEK-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    room = await alice.create_room(initial_state=[readable])
    sent = await alice.send(room, "hello")
    assert (await find(bob, room, FAR, "b"))[0] == sent


async def test_state_is_found_beside_messages(server: Server) -> None:
    """ROOM-24: whatever the moment, it is what a look at all events finds."""
    alice = await server.register("alice")
    room = await alice.create_room()
    for number in range(60):
        if number % 3:
            await alice.put_state(room, "org.example", {"n": number}, str(number % 7))
        else:
            await alice.send(room, str(number))
    page = await alice.get("/rooms/{}/messages", room, params={"dir": "f", "limit": 100})
    order = [(event["origin_server_ts"], event["event_id"]) for event in page["chunk"]]
    base = order[0][0]
    spread = {event_id: base + 10 * (number // 2) for number, (_, event_id) in enumerate(order)}
    sent_at(server, spread)  # two at each time
    times = sorted(set(spread.values()))
    for ts in (*times, *(ts + 1 for ts in times), base - 1):
        later = [event_id for event_id, at in spread.items() if at >= ts]
        earlier = [event_id for event_id, at in spread.items() if at <= ts]
        if later:
            assert (await find(alice, room, ts, "f"))[0] == later[0]
        if earlier:
            assert (await find(alice, room, ts, "b"))[0] == earlier[-1]


async def test_a_room_without_messages_has_events_too(server: Server) -> None:
    """ROOM-24."""
    alice = await server.register("alice")
    room = await alice.create_room(name="quiet")
    state = sorted(event["origin_server_ts"] for event in await alice.state(room))
    assert (await find(alice, room, 0, "f"))[1] == state[0]
    assert (await find(alice, room, FAR, "b"))[1] == state[-1]
