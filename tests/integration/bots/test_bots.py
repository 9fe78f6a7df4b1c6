"""A bot of the SDK in a process of its own at the real server (docs/bots.md)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appservices.bots.streams import PREFIX, SUBSCRIBE
from tests.conftest import StartServer
from tests.support import counting_bot
from tests.support.bots import BotProcess
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

BOT = "@counter:localhost"


@dataclass
class Played:
    """A server, a bot, and a room that both are in."""

    server: Server
    bot: BotProcess
    alice: User
    room: str


def is_in(user_id: str) -> Callable[[Any], bool]:
    """Whether an event is the user's coming into the room."""
    return lambda event: event.get("state_key") == user_id and event["content"]["membership"] == "join"


async def said(alice: User, room: str) -> list[str]:
    """All that the bot has said in the room."""
    found = (await alice.messages(room, limit=500))["chunk"]
    return [
        event["content"]["body"] for event in found if event["sender"] == BOT and "body" in event["content"]
    ]


@pytest.fixture
async def played(start_server: StartServer, tmp_path: Path) -> AsyncIterator[Played]:
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter")
    server = await start_server(appservices={"registration_files": [str(bot.registration)]})
    bot.homeserver = server.url
    bot.start()
    try:
        alice = await server.register("alice")
        room = await alice.create_room(invite=[BOT])
        await alice.sees(
            room,
            lambda event: (
                event["content"].get("displayname") == "counter"
                and event["content"].get("membership") == "join"
            ),
        )
        yield Played(server, bot, alice, room)
    finally:
        bot.kill9()


async def test_it_answers_presses_and_reminds(played: Played) -> None:
    alice, room = played.alice, played.room
    await alice.send(room, "!count 1")
    await alice.sees(room, "done 1 as 1")
    await alice.send(room, "!ask")
    question = await alice.sees(room, "Sure?")
    await alice.sees(
        room, lambda event: event["type"] == "m.reaction" and event["content"]["m.relates_to"]["key"] == "❌"
    )
    relation = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "✅"}
    await alice.send_event(room, "m.reaction", {"m.relates_to": relation})
    await alice.sees(room, "You said yes.")
    await alice.send(room, "!later 0.3")
    await alice.sees(room, "now")
    await alice.send(room, "!whisper")
    found = await alice.sync_until(lambda reply: reply.get("rooms", {}).get("invite"))
    [direct] = found["rooms"]["invite"]
    await alice.join(direct)
    await alice.sees(direct, "in private")
    assert played.bot.stop() == 0
    assert "Traceback" not in played.bot.log


async def test_who_looks_at_an_answer_is_told_as_it_grows(played: Played) -> None:
    """spec: MSC4471"""
    alice, room = played.alice, played.room
    await asyncio.sleep(3.0)  # what it sends to itself to see whether subscriptions come
    await alice.send(room, "counter: tell me")
    first = await alice.sees(room, "…")
    device = first["content"][PREFIX]["device_id"]
    subscription = {"room_id": room, "event_id": first["event_id"], "subscriber_device_id": alice.device_id}
    messages = {BOT: {device: subscription}}
    await alice.put("/sendToDevice/{}/{}", SUBSCRIBE, "s1", json={"messages": messages})
    told: list[str] = []
    while not any(event["content"].get("m.new_content") for event in alice.timeline[room]):
        reply = await alice.sync(timeout=2_000)
        told += [
            event["content"]["content"]["body"]
            for event in reply.get("to_device", {}).get("events", [])
            if event["type"] == f"{PREFIX}.update"
        ]
    whole = "".join(f"{word} " for word in range(20))
    assert len(told) > 2
    assert whole.startswith("".join(told))
    edit = next(event for event in alice.timeline[room] if event["content"].get("m.new_content"))
    assert edit["content"]["m.new_content"]["body"] == whole
    assert len(await said(alice, room)) == 2


async def test_killed_at_random_moments_it_answers_every_command_once(played: Played) -> None:
    """Killed again and again while it is asked something all the time, it neither forgets nor repeats anything."""
    alice, room, commands = played.alice, played.room, 25
    stopped = asyncio.Event()

    async def kill() -> None:
        pauses = iter([0.1, 0.35, 0.5, 0.2, 0.8])
        for pause in pauses:
            await asyncio.sleep(0.6 + pause)
            await asyncio.to_thread(played.bot.kill9)
            played.bot.start()
            if stopped.is_set():
                return

    killing = asyncio.ensure_future(kill())
    for number in range(commands):
        await alice.send(room, f"!count {number}")
        await asyncio.sleep(0.1)

    async def all_done() -> bool:
        return sum(body.startswith("done") for body in await said(alice, room)) >= commands

    await until(all_done, within=120, every=0.2)
    stopped.set()
    await killing
    await asyncio.sleep(1)
    assert sorted(await said(alice, room)) == sorted(
        [f"got {number}" for number in range(commands)]
        + [f"done {number} as {number + 1}" for number in range(commands)]
    )


async def test_a_bot_makes_webhooks_for_members(start_server: StartServer, tmp_path: Path) -> None:
    program = Path(__file__).parents[3] / "docs" / "bots" / "webhooks.py"
    bot = BotProcess(program, tmp_path, "webhooks")
    server = await start_server(appservices={"registration_files": [str(bot.registration)]})
    bot.homeserver = server.url
    bot.start()
    try:
        alice = await server.register("alice")
        levels = {"users": {"@webhooks:localhost": 50}}
        room = await alice.create_room(invite=["@webhooks:localhost"], power_level_content_override=levels)
        await alice.sees(room, is_in("@webhooks:localhost"))
        await alice.send(room, "!hook add CI")
        found = await alice.sync_until(lambda reply: reply.get("rooms", {}).get("invite"))
        [direct] = found["rooms"]["invite"]
        await alice.join(direct)
        told = await alice.sees(direct, lambda event: "/_atrium/hooks/" in event["content"].get("body", ""))
        address = told["content"]["body"].partition("`")[2].partition("`")[0]
        await server.client.post(address.removeprefix("https://example.com"), json={"text": "built"})
        await alice.sees(room, "built")
        await alice.send(room, "!hook list")
        await alice.sees(room, lambda event: "` CI" in event["content"].get("body", ""))
    finally:
        bot.kill9()
