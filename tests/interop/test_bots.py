"""A bot of the SDK at a homeserver (Synapse), and in encrypted rooms with a client (nio), that nobody here wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.interop.nio_person import NioPerson, accepted
from tests.interop.plays import Play, need_node
from tests.support import counting_bot
from tests.support.bots import BotProcess
from tests.support.client import CheckedClient
from tests.support.process import free_port
from tests.support.synapse import Synapse, SynapseSettings, ensure_environment
from tests.support.user import User

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]
BOT = "@counter:localhost"


@pytest.fixture
async def at_synapse(tmp_path: Path) -> AsyncIterator[tuple[BotProcess, User]]:
    """The bot at a Synapse that tells application services messages to devices, and Alice."""
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter")
    extra = {
        "app_service_config_files": [str(bot.registration)],
        "experimental_features": {"msc2409_to_device_messages_enabled": True},
    }
    python = await asyncio.to_thread(ensure_environment)
    settings = SynapseSettings(free_port(), extra=extra)
    synapse = Synapse(tmp_path / "synapse", settings, python)
    await asyncio.to_thread(synapse.start)
    client = CheckedClient(synapse.url, contract=False)  # its answers are not ours to judge
    bot.homeserver = synapse.url
    bot.start()
    try:
        body = {"username": "alice", "password": "x", "auth": {"type": "m.login.dummy"}}
        reply = await client.post("/register", json=body)
        yield bot, User(client, reply["user_id"], reply["access_token"], reply["device_id"], "x")
    finally:
        bot.kill9()
        await client.close()
        await asyncio.to_thread(synapse.stop)


async def test_at_synapse_it_answers_and_after_a_kill_too(at_synapse: tuple[BotProcess, User]) -> None:
    bot, alice = at_synapse
    room = await alice.create_room(invite=[BOT])
    await alice.sees(room, joined, timeout=30)
    for number in range(3):
        await alice.send(room, f"!count {number}")
        await alice.sees(room, f"done {number} as {number + 1}")
    await alice.send(room, "!count 3")
    await asyncio.to_thread(bot.kill9)
    await alice.send(room, "!count 4")
    bot.start()
    await alice.sees(room, "done 4 as 5", timeout=30)
    await alice.send(room, "!ask")
    question = await alice.sees(room, "Sure?")
    relation = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "❌"}
    await alice.send_event(room, "m.reaction", {"m.relates_to": relation})
    await alice.sees(room, "You said no.")
    await alice.send(room, "!whisper")
    await alice.sync_until(lambda reply: reply.get("rooms", {}).get("invite"))
    await alice.send(room, "counter: tell me")
    whole = "".join(f"{word} " for word in range(20))
    await alice.sees(room, lambda event: event["content"].get("m.new_content", {}).get("body") == whole)
    said = [
        event["content"]["body"]
        for event in alice.timeline[room]
        if event["sender"] == BOT and "body" in event["content"]
    ]
    assert [body for body in said if body.startswith(("got", "done"))] == [
        text for number in range(5) for text in (f"got {number}", f"done {number} as {number + 1}")
    ]


async def test_in_an_encrypted_room_it_answers_encrypted(start_server: StartServer, tmp_path: Path) -> None:
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter", options=["--encryption"])
    server = await start_server(appservices={"registration_files": [str(bot.registration)]})
    bot.homeserver = server.url
    bot.start()
    store = tmp_path / "store"
    store.mkdir()
    alice = await NioPerson.register(server.url, "alice", store)
    try:
        encrypted = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        created = await alice.client.room_create(invite=[BOT], initial_state=[encrypted])
        room = accepted(created).room_id
        await alice.until("the bot to come in", lambda: is_in(alice, room))
        asked = {"device_keys": {BOT: []}}
        known = await server.client.post(
            "/_matrix/client/v3/keys/query", token=alice.client.access_token, json=asked
        )
        assert known["device_keys"][BOT], "what is said from now on is encrypted for its device, too"
        await alice.says(room, "!count 1")
        answer = await said(alice, room, "done 1 as 1")
        assert answer.decrypted
        await asyncio.to_thread(bot.kill9)
        bot.start()
        await alice.says(room, "!count 2")
        assert (await said(alice, room, "done 2 as 2")).decrypted
        # What it streams has an encrypted first message, and the key for updates in it.
        await alice.says(room, "counter: tell me")
        first = await said(alice, room, "…")
        stream = first.source["content"].get("org.matrix.msc4471.stream", {})
        assert stream.get("encryption", {}).get("algorithm", "").endswith("aes-gcm")
    finally:
        await alice.close()
        bot.kill9()


async def test_one_who_trusts_signed_devices_alone_talks_with_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    """matrix-js-sdk is the judge of the signature (MSC4153)."""
    need_node()
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter", options=["--encryption"])
    server = await start_server(appservices={"registration_files": [str(bot.registration)]})
    bot.homeserver = server.url
    bot.start()
    play = Play("bot", server.url, tmp_path)
    play.environment |= {"BOT": BOT}
    try:
        await play.run(seconds=120)
    finally:
        bot.kill9()
    assert play.seen[-1] == "asked and answered in secret"


def joined(event: dict[str, Any]) -> bool:
    return event.get("state_key") == BOT and event["content"]["membership"] == "join"


def is_in(person: NioPerson, room_id: str) -> bool:
    room = person.client.rooms.get(room_id)
    return room is not None and BOT in room.users and BOT not in room.invited_users


async def said(person: NioPerson, room_id: str, words: str) -> Any:
    """What the bot has said with just these words."""

    def find() -> Any:
        return next(
            (
                event
                for room, event in person.events
                if room == room_id and getattr(event, "body", None) == words
            ),
            None,
        )

    return await person.until(f'the bot to say "{words}"', find)
