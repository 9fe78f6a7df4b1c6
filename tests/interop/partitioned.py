"""A play by chance: three servers share a room while the net between them fails and they are killed; then all is mended.

Each server has an anchor, whom nobody moderates and whose rights stay as they are, and somebody else, who is kicked, banned,
promoted and degraded. What an anchor says may not get lost anywhere; of the others a server may soft-fail what the rest has
accepted (FED-13), as each hears of their fate at another time. The state has to be the same in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from tests.interop.shared_rooms import paged, until
from tests.reliability.test_inbound_kill9 import killable
from tests.support.client import ContractError
from tests.support.faulty_net import Faults, FaultyNet, faulty_net
from tests.support.federation import Federation
from tests.support.partner import running_synapse, until_member
from tests.support.process import free_port
from tests.support.server import of_process
from tests.support.synapse import Synapse
from tests.support.user import Event, User

STEPS = 110
SECONDS_TO_SETTLE = 120
OWN = "org.example.own"
KEPT = frozenset({"m.room.message", "m.reaction", "m.room.topic", OWN})
"""Events of anchors that have to be everywhere."""

Events = dict[str, Event]


@dataclass
class Person:
    """`told`: the ids of events that syncs have shown, and pages where a sync has left a gap."""

    user: User
    anchor: bool
    told: set[str] = field(default_factory=set)
    gaps: int = 0
    repeated: int = 0
    last: str = ""


@dataclass
class Island:
    """A server. `ours`: an Atrium, whose answers are held against the contract."""

    name: str
    ours: bool
    anchor: Person
    other: Person
    kill: Callable[[], None]
    start: Callable[[], Any]
    forget: Callable[[], None]
    """What it remembers of the time when it could not reach others."""
    down_until: int | None = None
    """The step at which it is started again."""

    def __str__(self) -> str:
        return f"{'atrium' if self.ours else 'synapse'} {self.name}"

    def people(self) -> tuple[Person, Person]:
        """All who live there."""
        return self.anchor, self.other


async def played(federation: Federation, folder: Path, seed: int) -> str:
    """Two Atriums and a Synapse, once; the figures in words."""
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(faulty_net(federation.certificate, random.Random(seed)))
        atriums = [await atrium(stack, federation, net) for _ in range(2)]
        islands = [*atriums, await synapse(stack, federation, net, folder)]
        return await Partition(net, islands, random.Random(seed)).played(STEPS)


async def played_among_ourselves(federation: Federation, seed: int, steps: int) -> str:
    """Two Atriums, so many steps; the figures in words."""
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(faulty_net(federation.certificate, random.Random(seed)))
        islands = [await atrium(stack, federation, net) for _ in range(2)]
        return await Partition(net, islands, random.Random(seed)).played(steps)


async def atrium(stack: AsyncExitStack, federation: Federation, net: FaultyNet) -> Island:
    """In a process of its own."""
    config = federation.config()
    port = free_port()
    (shown,) = [each for each in config.listeners if each.tls is not None]
    moved = [each.model_copy(update={"port": port}) if each is shown else each for each in config.listeners]
    process = stack.enter_context(killable(config.with_listeners(tuple(moved)), 1))
    await asyncio.to_thread(process.start)
    await net.stand_before(config.server.name, shown.port, port)
    here = of_process(process)
    stack.push_async_callback(here.close)
    people = [Person(await here.register(name), name == "anna") for name in ("anna", "otto")]
    return Island(config.server.name, True, people[0], people[1], process.kill9, process.start, lambda: None)


async def synapse(stack: AsyncExitStack, federation: Federation, net: FaultyNet, folder: Path) -> Island:
    """A Synapse behind the same net."""
    named = free_port()
    running = running_synapse(folder / "synapse", federation.certificate, named=named)
    partner = await stack.enter_async_context(running)
    await net.stand_before(partner.name, named, partner.relay.port)
    people = [Person(await partner.register(name), name == "sven") for name in ("sven", "olga")]
    program = partner.program
    assert isinstance(program, Synapse)
    forget = partial(forget_failures, program)
    return Island(partner.name, False, people[0], people[1], program.kill9, program.start, forget)


def forget_failures(synapse: Synapse) -> None:
    """What it could not fetch once, and all that follows it, it leaves alone for an hour: nobody waits that long here."""
    synapse.stop()
    with contextlib.closing(sqlite3.connect(synapse.directory / "homeserver.db")) as database:
        database.execute("DELETE FROM event_failed_pull_attempts")
        database.commit()
    synapse.start()


class Partition:
    """The room, who is in it, and what happens to them."""

    def __init__(self, net: FaultyNet, islands: list[Island], chance: random.Random) -> None:
        self.net = net
        self.islands = islands
        self.chance = chance
        self.room = ""
        self.version = chance.choice(("6", "9", "10", "11", "12"))
        self.acknowledged: set[str] = set()
        """Events of anchors that have to be everywhere, by id."""
        self.done: Counter[str] = Counter()
        self.settled_after = 0.0
        self.settled_last: list[str] = []
        """The last differences there were."""
        self._number = 0
        self._before: set[str] = set()

    async def played(self, steps: int) -> str:
        """From the beginning to the end; the figures in words."""
        await self.gather()
        async with self.watching():
            for step in range(steps):
                await self.step(step)
            await self.heal()
            await self.settle()
        return self.figures()

    # ------------------------------------------------------------------------------------------------ the beginning

    async def gather(self) -> None:
        """A room of one server with everybody in it."""
        home = self.chance.choice(self.islands)
        creator = home.anchor.user
        users = {island.anchor.user.user_id: 50 for island in self.islands}
        if self.version == "12":
            del users[creator.user_id]
        else:
            users[creator.user_id] = 100
        self.room = await creator.create_room(
            preset="public_chat",
            room_version=self.version,
            power_level_content_override={"users": users, "events": {"m.room.power_levels": 50}},
        )
        for island in self.islands:
            for person in island.people():
                if person.user is not creator:
                    await until(
                        lambda i=island, p=person: self._joins(i, p, home), "everybody is in the room"
                    )
        for island in self.islands:
            for each in self.islands:
                for person in each.people():
                    await until_member(island.anchor.user, self.room, person.user.user_id, "join")
        self._before = set(await self._events(home.anchor))

    async def _joins(self, island: Island, person: Person, home: Island) -> bool:
        """On a busy machine Synapse may not wait long enough for an answer."""
        return await self._of(island, person.user.join(self.room, via=[home.name])) is not None

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """The anchors wait for news all the time, as clients do."""
        for island in self.islands:
            await island.anchor.user.sync()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(island)) for island in self.islands]
            yield
            for task in tasks:
                task.cancel()

    async def _watch(self, island: Island) -> None:
        person = island.anchor
        while True:
            since = person.user.since
            reply = await self._of(island, person.user.sync(timeout=2_000))
            if reply is None:
                await asyncio.sleep(0.2)
                continue
            timeline = reply.get("rooms", {}).get("join", {}).get(self.room, {}).get("timeline", {})
            new = {event["event_id"] for event in timeline.get("events", [])}
            person.repeated += len(new & person.told)
            person.told |= new
            if timeline.get("limited"):
                person.gaps += 1
                await self._fill(island, since, timeline["prev_batch"])

    async def _fill(self, island: Island, since: str | None, at: str | None) -> None:
        while at is not None:
            page = await self._of(
                island, island.anchor.user.messages(self.room, limit=100, from_=at, to=since)
            )
            if page is None:
                await asyncio.sleep(0.2)
                continue
            island.anchor.told |= {event["event_id"] for event in page["chunk"]}
            at = page.get("end")

    @staticmethod
    async def _of(island: Island, request: Any) -> Any:
        """Its answer; None from a server that is away, or from a Synapse that cannot go on."""
        try:
            return await request
        except aiohttp.ClientError:
            return None
        except ContractError:
            if island.ours:
                raise
            return None

    # ------------------------------------------------------------------------------------------------- what happens

    async def step(self, number: int) -> None:
        """Somebody does something, or something fails."""
        for island in self.islands:
            if island.down_until is not None and island.down_until <= number:
                await self._start(island)
        if self.chance.random() < 0.15:
            await self._fault(number)
        else:
            island = self.chance.choice([each for each in self.islands if each.down_until is None])
            person = island.anchor if self.chance.random() < 0.7 else island.other
            await (self._anchor_acts(island) if person.anchor else self._other_acts(island))
        await asyncio.sleep(0.15 * self.chance.random())

    async def _fault(self, number: int) -> None:
        kind = self.chance.choice(("cut", "cut", "weather", "weather", "join up", "kill"))
        if kind == "kill" and all(island.down_until is None for island in self.islands):
            island = self.chance.choice(self.islands)
            await asyncio.to_thread(island.kill)
            island.down_until = number + self.chance.randint(3, 15)
        elif kind == "cut":
            here, there = self.chance.sample(self.islands, 2)
            self.net.cut(here.name, there.name)
        elif kind == "weather":
            self.net.faults = Faults(
                drop=self.chance.choice((0, 0.1, 0.4)),
                lose_answer=self.chance.choice((0, 0.1, 0.3)),
                late=self.chance.choice((0, 0.1, 0.3)),
                delay=self.chance.choice((0, 0.3, 2)),
            )
        elif kind == "join up":
            self.net.mend()
        else:
            return
        self.done[kind] += 1

    async def _start(self, island: Island) -> None:
        await asyncio.to_thread(island.start)
        island.down_until = None

    async def _anchor_acts(self, island: Island) -> None:
        person, user = island.anchor, island.anchor.user
        self._number += 1
        act = self.chance.choices(
            ("say", "react", "topic", "own", "redact", "moderate"), (10, 2, 2, 3, 1, 4)
        )[0]
        if act == "moderate":
            await self._moderates(island)
            return
        if act == "redact" and person.last:
            await self._of(island, user.redact(self.room, person.last))
        elif act == "react" and person.last:
            relation = {"rel_type": "m.annotation", "event_id": person.last, "key": str(self._number)}
            done = await self._of(
                island, user.send_event(self.room, "m.reaction", {"m.relates_to": relation})
            )
            self._acknowledge(done)
        elif act == "topic":
            content = {"topic": str(self._number)}
            self._acknowledge(await self._of(island, user.put_state(self.room, "m.room.topic", content)))
        elif act == "own":
            content = {"number": str(self._number)}
            self._acknowledge(await self._of(island, user.put_state(self.room, OWN, content, user.user_id)))
        else:
            done = await self._of(island, user.send(self.room, f"{user.localpart} {self._number}"))
            self._acknowledge(done)
            person.last = done or person.last
        self.done[act] += 1

    def _acknowledge(self, event_id: str | None) -> None:
        if event_id:
            self.acknowledged.add(event_id)

    async def _moderates(self, island: Island) -> None:
        """It may be refused: the other may have rights of his own, or none to be taken."""
        user, whom = island.anchor.user, self.chance.choice(self.islands).other.user
        act = self.chance.choice(("kick", "ban", "unban", "unban", "promote", "degrade"))
        self.done[act] += 1
        if act in ("promote", "degrade"):
            levels = await self._of(island, user.state(self.room, "m.room.power_levels"))
            if levels is not None:
                content = {
                    **levels,
                    "users": {**levels["users"], whom.user_id: 40 if act == "promote" else 0},
                }
                request = user.put_state(self.room, "m.room.power_levels", content, expect=None)
                await self._of(island, request)
        else:
            body = {"user_id": whom.user_id}
            path = "/rooms/{}/" + act
            await self._of(island, user.post(path, self.room, json=body, expect=None))

    async def _other_acts(self, island: Island) -> None:
        user = island.other.user
        act = self.chance.choices(("say", "leave", "join"), (6, 1, 3))[0]
        self.done[f"other's {act}"] += 1
        if act == "say":
            await self._of(island, user.send(self.room, f"{user.localpart} {self._number}", expect=None))
        elif act == "leave":
            await self._of(island, user.leave(self.room, expect=None))
        else:
            await self._of(island, user.join(self.room, expect=None))

    # ----------------------------------------------------------------------------------------------------- the end

    async def heal(self) -> None:
        """Everything runs and reaches everything, and everybody says something."""
        self.net.mend()
        for island in self.islands:
            if island.down_until is not None:
                await self._start(island)
            await asyncio.to_thread(island.forget)
        for island in self.islands:
            self._acknowledge(await island.anchor.user.send(self.room, f"together, {island.name}"))

    async def settle(self) -> None:
        """Until everybody knows the same; an AssertionError says who lacks what."""
        began = time.monotonic()
        while differences := await self._differences():
            if time.monotonic() - began > SECONDS_TO_SETTLE:
                raise AssertionError("\n".join(differences))
            self.settled_last = differences
            await asyncio.sleep(0.5)
        self.settled_after = time.monotonic() - began

    async def _differences(self) -> list[str]:
        found: list[str] = []
        states = [await self._state(island.anchor) for island in self.islands]
        pages = [await self._events(island.anchor) for island in self.islands]
        everywhere = {
            event_id for page in pages for event_id, event in page.items() if self._counts(event)
        } | self.acknowledged
        every = {event_id: event for page in pages for event_id, event in page.items()}
        for island, state, page in zip(self.islands, states, pages, strict=True):
            found += [
                f"{island}: state {slot} is {state.get(slot)}, not {states[0].get(slot)}"
                for slot in states[0].keys() | state.keys()
                if states[0].get(slot) != state.get(slot)
            ]
            found += [f"{island} lacks {_words(every.get(each), each)}" for each in everywhere - page.keys()]
            if island.ours:
                untold = (everywhere & page.keys()) - self._before - island.anchor.told
                found += [f"{island} told nobody of {_words(every[each], each)}" for each in untold]
                if island.anchor.repeated:
                    found.append(f"{island} told {island.anchor.repeated} events twice")
        return found

    def _counts(self, event: Event) -> bool:
        anchors = {island.anchor.user.user_id for island in self.islands}
        return event["sender"] in anchors and event["type"] in KEPT

    async def _state(self, person: Person) -> dict[tuple[str, str], str]:
        events = await person.user.state(self.room)
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}

    async def _events(self, person: Person) -> Events:
        return {event["event_id"]: event for event in await paged(person.user, self.room)}

    def figures(self) -> str:
        """What happened, in words."""
        clients = ", ".join(
            f"{island}: {len(island.anchor.told)} told, {island.anchor.gaps} gaps" for island in self.islands
        )
        return (
            f"version {self.version}, {len(self.acknowledged)} events of anchors, same after {self.settled_after:.1f} s;"
            f" {dict(self.done)}; requests {dict(self.net.told)}; clients {clients};"
            f" the last differences: {self.settled_last[:3]}"
        )


def _words(event: Event | None, event_id: str) -> str:
    if event is None:
        return event_id
    return f"{event_id} ({event['type']} of {event['sender']}: {event['content']})"
