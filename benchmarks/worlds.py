"""What scenarios find already there: many rooms with a little history, one crowded room, one with a long past."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.people import Person
from benchmarks.stage import SETUP_CONCURRENCY, Stage, at_most


@dataclass(frozen=True)
class ManyRooms:
    """Members who share all rooms; every room ends in `events_each` messages."""

    members: list[Person]
    rooms: list[str]
    events_each: int


@dataclass(frozen=True)
class OneRoom:
    """A room and who is in it; the first member made it."""

    members: list[Person]
    room: str


async def many_rooms(stage: Stage) -> ManyRooms:
    """200 rooms, 3 members in each, the last 20 events of each are messages of two of them."""
    members = await stage.people(3, "colleague")
    rooms: list[str] = []

    async def furnish(number: int) -> None:
        owner, *others = [member.another_connection() for member in members]
        room = await owner.make_room(
            preset="public_chat", name=f"Project {number}", topic="What is to be done, and when"
        )
        for other in others:
            await other.join(room)
        for message in range(20):
            await others[message % len(others)].say(room)
        rooms.append(room)
        for person in (owner, *others):
            person.connection.close()

    await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(stage.scaled(200))))
    return ManyRooms(members, rooms, 20)


@dataclass(frozen=True)
class Space:
    """Members of a space; its rooms are public and in the directory."""

    members: list[Person]
    space: str
    rooms: list[str]


async def space(stage: Stage) -> Space:
    """A space of 200 public rooms, made by one of 20 people; all are in the space, the one in its rooms."""
    members = await stage.people(20, "member")
    owner = members[0]
    top = await owner.make_room(
        preset="public_chat", name="Company", creation_content={"type": "m.space"}, visibility="public"
    )
    for other in members[1:]:
        await other.join(top)
    rooms: list[str] = []

    async def furnish(number: int) -> None:
        maker = owner.another_connection()
        room = await maker.make_room(preset="public_chat", visibility="public", name=f"Workshop {number}")
        path = f"/rooms/{quote(top)}/state/m.space.child/{quote(room)}"
        await maker.call("PUT", path, {"via": [owner.user_id.partition(":")[2]]})
        rooms.append(room)
        maker.connection.close()

    await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(stage.scaled(200))))
    return Space(members, top, rooms)


async def account(stage: Stage) -> ManyRooms:
    """Somebody with 1 000 rooms of their own, one message in each."""
    members = await stage.people(1, "collector")
    rooms: list[str] = []

    async def furnish(number: int) -> None:
        owner = members[0].another_connection()
        room = await owner.make_room(preset="private_chat", name=f"Room {number}")
        await owner.say(room)
        rooms.append(room)
        owner.connection.close()

    await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(stage.scaled(1000))))
    return ManyRooms(members, rooms, 1)


async def crowd(stage: Stage) -> OneRoom:
    """One room with 200 members."""
    members = await stage.people(stage.scaled(200, least=60), "crowd")
    room = await members[0].make_room(preset="public_chat", name="Everybody")

    async def enter(person: Person) -> None:
        await person.join(room)

    await at_most(SETUP_CONCURRENCY, (enter(person) for person in members[1:]))
    return OneRoom(members, room)


async def assembly(stage: Stage) -> OneRoom:
    """One room with 2 000 members, of whom the first ten have their connections open."""
    members = await stage.people(stage.scaled(2000, least=20), "assembly")
    room = await members[0].make_room(preset="public_chat", name="Assembly")

    async def enter(person: Person) -> None:
        await person.join(room)
        if person not in members[:10]:
            person.connection.close()

    await at_most(SETUP_CONCURRENCY, (enter(person) for person in members[1:]))
    return OneRoom(members, room)


async def long_past(stage: Stage) -> OneRoom:
    """A room of 4 members with 1 000 messages in it."""
    members = await stage.people(4, "historian")
    room = await members[0].make_room(preset="public_chat", name="Archive")
    for person in members[1:]:
        await person.join(room)

    async def write(person: Person) -> None:
        for number in range(stage.scaled(1000) // len(members)):
            await person.say(room, f"Entry {number}: nothing of note happened.")

    await at_most(len(members), (write(person) for person in members))
    return OneRoom(members, room)
