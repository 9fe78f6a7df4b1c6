"""Many ask for something expensive at once; nobody is refused, memory is bounded, and somebody beside them is served."""

import asyncio
import os
import time
from collections import Counter
from urllib.parse import quote

import msgspec
import pytest

from benchmarks.keys import DeviceKeys
from benchmarks.people import Person, registration
from benchmarks.wire import Connection
from tests.support.bystander import judge
from tests.support.load import Load

pytestmark = pytest.mark.reliability

LOGIN = "/_matrix/client/v3/login"
QUIET = quote('{"presence":{"types":[]},"room":{"timeline":{"limit":50},"state":{"lazy_load_members":true}}}')


def sync(person: Person, since: str | None = None, timeout: int = 0) -> bytes:
    more = f"&since={quote(since)}" if since else ""
    return person.request("GET", f"/sync?set_presence=offline&filter={QUIET}&timeout={timeout}{more}")


async def hall(load: Load) -> tuple[str, list[Person]]:
    """A room of two thousand."""
    people = await load.populate(2000)
    if "hall" not in load.rooms:
        load.rooms["hall"] = await load.room_of(people)
    return load.rooms["hall"], people


async def thick_room(load: Load) -> tuple[str, Person]:
    """A room whose pages are as large as pages may be."""
    owner = (await load.populate(2000))[0]
    if "thick" not in load.rooms:
        room = load.rooms["thick"] = await owner.make_room()
        path = f"/rooms/{quote(room)}/send/m.room.message/thick"
        bodies = [{"msgtype": "m.text", "body": os.urandom(25_000).hex()} for _ in range(200)]
        await load.gently(owner.request("PUT", f"{path}{n}", body) for n, body in enumerate(bodies))
    return load.rooms["thick"], owner


async def test_waiting_syncs_of_a_room_are_woken_together(load: Load) -> None:
    room, people = await hall(load)
    waiting = people[: load.some(500)]
    since = (await load.gently([sync(people[0])]))[0].json()["next_batch"]
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        polls = asyncio.create_task(
            load.at_once((sync(each, since, timeout=60_000) for each in waiting), read=True)
        )
        await asyncio.sleep(2)  # most wait by now; who comes later is answered at once
        await people[-1].say(room, "wake up")
        answers = await polls
    assert answers.statuses == {200: len(waiting)}
    assert all(b"wake up" in body for body in answers.bodies)
    assert memory.grown < 64
    judge(alone, during, times=10, worst=0.5)


async def test_fifty_write_at_once_in_a_room_of_two_thousand(load: Load) -> None:
    """A message costs no more in a large room, and none is lost or doubled."""
    room, people = await hall(load)
    writers = people[:50]
    small = await load.room_of(writers)
    alone = await load.bystander.alone()

    async def everybody_writes(there: str) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(write(person, there) for person in writers))
        return time.perf_counter() - began

    async def write(person: Person, there: str) -> None:
        for _ in range(10):
            await person.say(there)

    since = (await load.gently([sync(people[0])]))[0].json()["next_batch"]
    usual = await everybody_writes(small)
    async with load.bystander.watching() as during:
        took = await everybody_writes(room)
    path = f"/rooms/{quote(room)}/messages?dir=f&limit=1000&from={quote(since)}"
    page = (await load.gently([people[0].request("GET", path)]))[0].json()
    written = Counter(event["sender"] for event in page["chunk"] if event["type"] == "m.room.message")
    assert written == {person.user_id: 10 for person in writers}
    assert took < 4 * usual
    judge(alone, during, times=20, worst=0.5)


async def test_somebody_in_two_thousand_rooms(load: Load) -> None:
    """They sync anew on five devices; afterwards, what is new costs them hardly more than somebody in one room."""
    people = await load.populate(2000)
    busy, idle = people[1], people[2]
    number = load.some(2000)
    await load.gently(busy.request("POST", "/createRoom", {}) for _ in range(number))
    room = await load.room_of([busy, idle])
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        answers = await load.at_once([sync(busy)] * 5, read=True)
    assert answers.statuses == {200: 5}
    syncs = [msgspec.json.decode(body) for body in answers.bodies]
    assert all(len(each["rooms"]["join"]) >= number + 1 for each in syncs)
    assert memory.grown < 300
    judge(alone, during, times=20, worst=0.5)

    async def news(person: Person, since: str) -> float:
        seconds = []
        for _ in range(20):
            await idle.say(room)
            answer = await person.connection.succeed(sync(person, since))
            since = answer.json()["next_batch"]
            seconds.append(answer.seconds)
        return sorted(seconds)[10]

    since = syncs[0]["next_batch"]
    of_idle, of_busy = await news(idle, since), await news(busy, since)
    assert of_busy < 5 * max(of_idle, 0.002)


async def test_a_hundred_uploads_of_keys_then_everybody_asks_for_everybodys(load: Load) -> None:
    people = await load.populate(2000)
    uploading = people[: load.some(100)]
    bodies = []
    for each in uploading:
        keys = DeviceKeys(each)
        bodies.append({"device_keys": keys.identity(), "one_time_keys": keys.one_time_keys(50)})
    alone = await load.bystander.alone()
    async with load.bystander.watching() as during:
        answers = await load.at_once(
            [
                person.request("POST", "/keys/upload", body)
                for person, body in zip(uploading, bodies, strict=True)
            ],
            read=True,
        )
    assert answers.statuses == {200: len(uploading)}
    counts = [msgspec.json.decode(body)["one_time_key_counts"] for body in answers.bodies]
    assert all(each["signed_curve25519"] == 50 for each in counts)
    judge(alone, during, times=10, worst=0.7)

    await load.gently(
        person.request("POST", "/keys/upload", {"device_keys": DeviceKeys(person).identity()})
        for person in people[len(uploading) :]
    )
    everybody = {"device_keys": {person.user_id: [] for person in people}}
    async with load.memory() as memory, load.bystander.watching() as during:
        answers = await load.at_once(
            (person.request("POST", "/keys/query", everybody) for person in people[: load.some(40)]),
            read=True,
        )
    assert answers.statuses == {200: load.some(40)}
    assert {len(msgspec.json.decode(body)["device_keys"]) for body in answers.bodies} == {len(people)}
    assert memory.grown < 300
    judge(alone, during, times=20, worst=0.5)


async def test_forty_ask_for_the_largest_pages(load: Load) -> None:
    room, owner = await thick_room(load)
    number = load.some(40)
    path = f"/rooms/{quote(room)}/messages?dir=b&limit=1000"
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        answers = await load.at_once([owner.request("GET", path)] * number)
    assert answers.statuses == {200: number}
    assert answers.bytes / number > 3_000_000
    assert memory.grown < 300
    judge(alone, during, times=30, worst=0.8)


async def test_fifty_logins_at_once(load_as_configured: Load) -> None:
    """AUTH-28. What is computed for passwords neither holds the event loop nor takes memory for each who waits."""
    load = load_as_configured
    person = (await load.populate(10))[0]
    number = load.some(50)

    def login(password: str) -> bytes:
        identifier = {"type": "m.id.user", "user": person.user_id}
        body = {"type": "m.login.password", "identifier": identifier, "password": password}
        return load.target.request("POST", LOGIN, body=body)

    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        right, wrong = await asyncio.gather(
            load.at_once([login("benchmark-password-7")] * number), load.at_once([login("wrong")] * number)
        )
    assert right.statuses == {200: number}
    assert wrong.statuses == {403: number}
    assert memory.grown < 60 * load.process.processes
    judge(alone, during, times=10, worst=0.3)


async def test_everybody_registers_at_once(load_as_configured: Load) -> None:
    """More than may wait for their password to be hashed: the rest are told to come back, and can."""
    load = load_as_configured
    number, tag = load.some(600), os.urandom(3).hex()
    requests = [registration(load.target, f"storm{tag}.{n}") for n in range(number)]
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        answers = await load.at_once(requests)
    assert answers.statuses.keys() <= {200, 429}
    assert answers.statuses[200] >= min(number, 200)
    assert memory.grown < 80 * load.process.processes
    judge(alone, during, times=10, worst=0.3)
    again = await Connection(load.target).send(registration(load.target, f"later{tag}"))
    assert again.status == 200
