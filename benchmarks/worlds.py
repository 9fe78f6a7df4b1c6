"""What scenarios find already there: many rooms with a little history, one crowded room, one with a long past."""

from __future__ import annotations

from dataclasses import dataclass

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
