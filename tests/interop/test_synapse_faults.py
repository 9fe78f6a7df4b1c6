"""The net between us and a real Synapse fails, and our processes are killed: afterwards both know the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.interop.shared_rooms import OWNERS, PATIENCE, Play, bodies, ids, same_state, until
from tests.reliability.test_inbound_kill9 import killable
from tests.support.federation import Federation
from tests.support.partner import Partner
from tests.support.process import free_port
from tests.support.relay import Relay
from tests.support.server import Server, of_process, running
from tests.support.user import User

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.reliability, pytest.mark.timeout(280)]


APART = 80


class Net:
    """What lies between the two servers."""

    def __init__(self, *relays: Relay) -> None:
        self._relays = relays

    def cut(self) -> None:
        for relay in self._relays:
            relay.close()

    async def mend(self) -> None:
        for relay in self._relays:
            await relay.open()


@contextlib.asynccontextmanager
async def behind_relay(federation: Federation) -> AsyncIterator[tuple[Server, Relay]]:
    """An Atrium that can be taken off the net."""
    config = federation.config()
    port = free_port()
    (shown,) = [each for each in config.listeners if each.tls is not None]
    moved = [each.model_copy(update={"port": port}) if each is shown else each for each in config.listeners]
    relay = Relay({"host": "127.0.0.1", "port": port}, shown.port)
    await relay.open()
    async with running(config.with_listeners(tuple(moved))) as here:
        yield here, relay
    relay.close()


@contextlib.asynccontextmanager
async def watching(*users: User) -> AsyncIterator[None]:
    """They wait for news all the time, as clients do; nothing may be left out of what they are told."""

    async def watch(user: User) -> None:
        while True:
            reply = await user.sync(timeout=2_000)
            for room in reply.get("rooms", {}).get("join", {}).values():
                assert not room.get("timeline", {}).get("limited"), f"a gap for {user.user_id}"

    for user in users:
        await user.sync()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch(user)) for user in users]
        yield
        for task in tasks:
            task.cancel()


async def same_events(play: Play, room: str) -> set[str]:
    async def same() -> set[str]:
        here, there = [set(await ids(user, room)) for user in (play.owner, play.guest)]
        return here if here == there else set()

    found: set[str] = await until(same, "the events are the same on both sides", 60)
    return found


@OWNERS
async def test_a_partition_heals(federation: Federation, partner: Partner, ours: bool) -> None:
    """Both sides write while they cannot reach each other: afterwards the same state, the same events, no gap."""
    async with behind_relay(federation) as (here, relay):
        net = Net(relay, partner.relay)
        play = await Play.begin(here, partner, ours=ours)
        room = await play.room(power_level_content_override={"state_default": 0})
        await play.guest.sees(room, await play.owner.send(room, "before"), timeout=PATIENCE)
        before = await same_events(play, room)
        async with watching(play.owner, play.guest):
            for round_ in range(2):
                net.cut()
                for number in range(8):
                    for user, _ in play.both():
                        await user.send(room, f"{round_} apart {number}")
                for user, _ in play.both():
                    await user.put_state(room, "m.room.topic", {"topic": f"{round_} {user.localpart}"})
                    await user.put_state(room, "org.example.own", {"round": round_}, user.localpart)
                await asyncio.sleep(3)
                await net.mend()
                for user, _ in play.both():
                    await user.send(room, f"{round_} together")
                events = await same_events(play, room)
                await same_state(play, room)
            await told_of(play, room, events - before)


async def told_since(user: User, room: str, since: str | None) -> set[str]:
    """The ids of what a client comes to know that syncs on from a token, and pages back where an answer has a gap."""
    found: set[str] = set()
    while True:
        reply = await user.sync(since=since)
        timeline = reply.get("rooms", {}).get("join", {}).get(room, {}).get("timeline")
        if timeline is None:
            return found
        found |= {event["event_id"] for event in timeline["events"]}
        at = timeline["prev_batch"] if timeline.get("limited") else None
        while at is not None:  # `to`: as far as it knows already
            page = await user.messages(room, from_=at, to=since, limit=50)
            found |= {event["event_id"] for event in page["chunk"]}
            at = page.get("end")
        since = reply["next_batch"]


async def told_of(play: Play, room: str, events: set[str]) -> None:
    """Waiting clients have been shown all these events."""

    async def shown() -> bool:
        return all({event["event_id"] for event in user.timeline[room]} >= events for user, _ in play.both())

    await until(shown, "both were told of everything")


@OWNERS
async def test_a_long_partition_heals(federation: Federation, partner: Partner, ours: bool) -> None:
    """More is written apart than one transaction or one answer about missing events holds."""
    async with behind_relay(federation) as (here, relay):
        net = Net(relay, partner.relay)
        play = await Play.begin(here, partner, ours=ours)
        room = await play.room()
        await play.guest.sees(room, await play.owner.send(room, "before"), timeout=PATIENCE)
        mine = play.owner if ours else play.guest
        await mine.sync()
        since, before = mine.since, set(await ids(mine, room))
        net.cut()
        for number in range(APART):
            for user, _ in play.both():
                await user.send(room, f"{user.localpart} {number}")
        await net.mend()
        for user, _ in play.both():
            await user.send(room, "together")
        events = await same_events(play, room)
        await same_state(play, room)
        assert await told_since(mine, room, since) >= events - before
        for user, _ in play.both():
            said = await bodies(user, room)
            for author, _ in play.both():
                texts = [f"{author.localpart} {number}" for number in range(APART)]
                assert [text for text in said if text.startswith(f"{author.localpart} ")] == texts


@OWNERS
async def test_rights_that_are_taken_away_apart(federation: Federation, partner: Partner, ours: bool) -> None:
    """The owner takes rights away which the guest uses meanwhile: both sides hold the same state afterwards."""
    async with behind_relay(federation) as (here, relay):
        net = Net(relay, partner.relay)
        play = await Play.begin(here, partner, ours=ours)
        room = await play.room()
        levels = await play.owner.state(room, "m.room.power_levels")
        able = {**levels, "users": {**levels.get("users", {}), play.guest.user_id: 50}}
        await play.owner.put_state(room, "m.room.power_levels", able)
        await same_state(play, room)
        net.cut()
        await play.owner.put_state(room, "m.room.power_levels", levels)
        await play.guest.put_state(room, "m.room.name", {"name": "Not any more"})
        await play.owner.put_state(room, "m.room.name", {"name": "Mine"})
        await asyncio.sleep(2)
        await net.mend()
        for user, _ in play.both():
            await user.send(room, "together")
        await same_state(play, room)
        for user, _ in play.both():
            assert (await user.state(room, "m.room.name"))["name"] == "Mine"


@pytest.mark.parametrize("ours", [True, False], ids=["we send", "synapse sends"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_we_are_killed_while_messages_are_sent(
    federation: Federation, partner: Partner, processes: int, ours: bool
) -> None:
    """Everything that was acknowledged meanwhile arrives, once, and in its order."""
    with killable(federation.config(), processes) as process:
        await asyncio.to_thread(process.start)
        here = of_process(process)
        anna, sven = await here.register("anna"), await partner.register("sven")
        room = await sven.create_room(preset="public_chat")
        await anna.join(room, via=[partner.name])
        said = [f"message {number}" for number in range(200)]
        for number, text in enumerate(said):
            await (anna if ours else sven).send(room, text)
            if number in (50, 120, 170):
                await asyncio.to_thread(process.kill9)
                await here.close()
                await asyncio.to_thread(process.start)

        async def all_there() -> bool:
            return set(await ids(anna, room)) == set(await ids(sven, room))

        await until(all_there, "everything is on both sides", 90)
        assert await bodies(anna, room) == await bodies(sven, room) == said
        await here.close()
