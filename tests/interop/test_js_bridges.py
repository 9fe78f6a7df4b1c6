"""Application services made with matrix-bot-sdk and matrix-appservice-bridge, on which most bridges in JavaScript stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartServer
from tests.interop.js_bridges import Driver, driving, packages
from tests.support.appservice import FakeService
from tests.support.process import free_port
from tests.support.server import Server
from tests.support.user import Event, User

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

Holds = Callable[[Event], bool]


def says(sender: str, body: str) -> Holds:
    return lambda event: event["sender"] == sender and event["content"].get("body") == body


def member(user_id: str, membership: str) -> Holds:
    return lambda event: (
        event.get("state_key") == user_id and event["content"].get("membership") == membership
    )


async def asks(alice: User, room: str, command: str, holds: Holds) -> Event:
    """Says a command and waits for what it brings about."""
    await alice.send(room, command)
    return await alice.sees(room, holds, timeout=60)


async def told_in_order(driver: Driver, sent: list[str], kind: str) -> None:
    """Each of these events was told once, in the order in which it was sent."""
    await driver.tells(kind, event=sent[-1])
    assert [each["event"] for each in driver.told if each.get("event") in sent] == sent


# --------------------------------------------------------------------------------------------------- matrix-bot-sdk

BOT = "@lanternbot:localhost"
ANNA = "@_lantern_anna:localhost"


@pytest.fixture
async def lantern(tmp_path: Path) -> list[str]:
    """How the service is started, but for the address of the server."""
    packages()
    names = {
        kind: [{"regex": f"{sigil}_lantern_.*:localhost", "exclusive": True}]
        for kind, sigil in (("users", "@"), ("aliases", "#"))
    }
    options = {"protocols": ["lantern"], "de.sorunome.msc2409.push_ephemeral": True}
    service = FakeService(
        id="lantern", sender="lanternbot", namespaces={**names, "rooms": []}, options=options
    )
    return ["bot-sdk.cjs", str(service.file(tmp_path))]


async def test_with_matrix_bot_sdk_ghosts_speak_and_hear(
    start_server: StartServer, lantern: list[str], tmp_path: Path
) -> None:
    server: Server = await start_server(appservices={"registration_files": lantern[1:]})
    alice = await server.register_exactly("alice")
    command = [*lantern, server.url, str(tmp_path / "store.json")]
    async with driving(*command, log=tmp_path / "lantern.log") as driver:
        room = await alice.create_room(preset="private_chat", invite=[BOT])
        await alice.sees(room, member(BOT, "join"), timeout=60)
        heard = await asks(alice, room, "!ghost anna good evening", says(ANNA, "good evening"))
        await driver.tells("message", event=heard["event_id"], sender=ANNA)
        profile = await alice.get("/profile/{}", ANNA)
        assert profile["displayname"] == "anna (afar)"
        past = await asks(alice, room, "!past long ago", says(ANNA, "long ago"))
        assert past["origin_server_ts"] == 946_684_800_000
        picture = await asks(alice, room, "!picture", says(BOT, "the same"))
        assert picture["content"]["url"].startswith("mxc://localhost/")
        await asks(alice, room, "!remember street", says(BOT, "remembered"))
        await asks(alice, room, "!recall street", says(ANNA, "recalled street"))
        await asks(alice, room, "!who", says(BOT, "anna (afar), one of 3, with 0"))
        await asks(alice, room, "!publish", says(BOT, "published"))
        listed = await alice.post("/publicRooms", json={"third_party_instance_id": "lantern|lanternnet"})
        assert [each["room_id"] for each in listed["chunk"]] == [room]
        relation = {"rel_type": "m.annotation", "event_id": heard["event_id"], "key": "👍"}
        await alice.send_event(room, "m.reaction", {"m.relates_to": relation})
        await driver.tells("reaction", room=room, key="👍")
        await asks(alice, room, "!leave", member(ANNA, "leave"))
        assert driver.failures() == []


async def test_with_matrix_bot_sdk_what_is_asked_for_is_made(
    start_server: StartServer, lantern: list[str], tmp_path: Path
) -> None:
    """Accounts and rooms come into being when somebody asks for them; the network is searched; typing and receipts are told."""
    server: Server = await start_server(appservices={"registration_files": lantern[1:]})
    alice = await server.register_exactly("alice")
    command = [*lantern, server.url, str(tmp_path / "store.json")]
    async with driving(*command, log=tmp_path / "lantern.log") as driver:
        carl = "@_lantern_carl:localhost"
        assert (await alice.get("/profile/{}", carl))["displayname"] == "Ghost carl"
        await driver.tells("asked for a user", user=carl)
        await alice.get("/profile/{}", "@_lantern_nobody:localhost", expect=404)
        room = (await alice.join("#_lantern_harbour:localhost"))["room_id"]
        assert (await alice.state(room, "m.room.name"))["name"] == "The room harbour"
        await alice.get("/directory/room/{}", "#_lantern_nowhere:localhost", expect=404)
        await alice.post("/rooms/{}/invite", room, json={"user_id": carl})
        await driver.tells("invited", user=carl, room=room)
        await alice.sees(room, member(carl, "join"), timeout=60)
        protocols = await alice.get("/thirdparty/protocols")
        assert [each["network_id"] for each in protocols["lantern"]["instances"]] == ["lanternnet"]
        [found] = await alice.get("/thirdparty/user/{}", "lantern", params={"nick": "dora"})
        assert found["userid"] == "@_lantern_dora:localhost"
        [place] = await alice.get("/thirdparty/location/{}", "lantern", params={"channel": "pier"})
        assert place["alias"] == "#_lantern_pier:localhost"
        event = await alice.send(room, "hm")
        await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 20000})
        await alice.post("/rooms/{}/receipt/m.read/{}", room, event, json={})
        typing = await driver.tells("ephemeral", type="m.typing", room=room)
        assert typing["content"]["user_ids"] == [alice.user_id]
        receipt = await driver.tells("ephemeral", type="m.receipt", room=room)
        assert alice.user_id in receipt["content"][event]["m.read"]
        await asks(alice, room, "!ghost anna hello", says(ANNA, "hello"))
        await alice.send(room, "!type")
        await alice.sync_until(lambda reply: ANNA in typing_in(reply, room), timeout=60)
        assert driver.failures() == []


async def test_with_matrix_bot_sdk_nothing_is_lost_while_it_is_away(
    start_server: StartServer, lantern: list[str], tmp_path: Path
) -> None:
    server: Server = await start_server(appservices={"registration_files": lantern[1:]})
    alice = await server.register_exactly("alice")
    command = [*lantern, server.url, str(tmp_path / "store.json")]
    async with driving(*command, log=tmp_path / "lantern.log"):
        room = await alice.create_room(preset="private_chat", invite=[BOT])
        await alice.sees(room, member(BOT, "join"), timeout=60)
    sent = [await alice.send(room, f"line {number}") for number in range(150)]
    async with driving(*command, log=tmp_path / "lantern.log") as driver:
        await told_in_order(driver, sent, "message")


def typing_in(reply: dict[str, Any], room: str) -> list[str]:
    events = reply.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
    return [user for event in events if event["type"] == "m.typing" for user in event["content"]["user_ids"]]


# ------------------------------------------------------------------------------------------ matrix-appservice-bridge

RELAY = "@relaybot:localhost"
BERT = "@_relay_bert:localhost"


@pytest.fixture
async def relay(tmp_path: Path) -> list[str]:
    """How the bridge is started, but for the address of the server; it has written its registration itself."""
    folder, file = packages(), tmp_path / "relay.yaml"
    made = await asyncio.create_subprocess_exec(
        "node", "appservice-bridge.cjs", "register", str(file), f"http://127.0.0.1:{free_port()}", cwd=folder
    )
    assert await made.wait() == 0
    assert yaml.safe_load(file.read_text())["sender_localpart"] == "relaybot"
    return ["appservice-bridge.cjs", "run", str(file)]


async def test_with_matrix_appservice_bridge_messages_go_both_ways(
    start_server: StartServer, relay: list[str], tmp_path: Path
) -> None:
    server: Server = await start_server(appservices={"registration_files": relay[2:]})
    alice = await server.register_exactly("alice")
    command = [*relay, server.url, str(tmp_path)]
    async with driving(*command, log=tmp_path / "relay.log") as driver:
        levels = {"users": {RELAY: 100}}
        room = await alice.create_room(
            preset="public_chat", invite=[RELAY], power_level_content_override=levels
        )
        await alice.sees(room, member(RELAY, "join"), timeout=60)
        await asks(alice, room, "!link #kitchen", says(RELAY, "linked to #kitchen"))
        await asks(alice, room, "!hear #kitchen bert the kettle sings", says(BERT, "the kettle sings"))
        event = await alice.send(room, "pour it")
        told = await driver.tells("event", event=event)
        assert told["remotes"] == ["#kitchen"]
        await asks(alice, room, "!ping", says(RELAY, "pinged"))
        await asks(alice, room, "!settle", says(RELAY, "settled"))
        assert (await alice.get("/directory/room/{}", "#_relay_kitchen:localhost"))["room_id"] == room
        listed = await alice.post("/publicRooms", json={"third_party_instance_id": "relay|relaynet"})
        assert [each["room_id"] for each in listed["chunk"]] == [room]
        await asks(alice, room, "!state", says(RELAY, "Relayed, null, bert (relay), 3 members, true"))
        await asks(alice, room, "!info", lambda event: event["type"] == "uk.half-shot.bridge")
        named = await asks(
            alice, room, "!name Bertie", lambda event: event["content"].get("displayname") == "Bertie"
        )
        assert named["state_key"] == BERT
        await alice.send(room, "!queue")
        for nick in ("one", "two", "three"):
            await alice.sees(room, member(f"@_relay_{nick}:localhost", "join"), timeout=60)
        edit = {"rel_type": "m.replace", "event_id": event}
        content = {"m.new_content": {"msgtype": "m.text", "body": "pour it now"}, "m.relates_to": edit}
        edited = await alice.send(room, "* pour it now", **content)
        await driver.tells(
            "event", event=edited
        )  # it has asked for what was edited and found it to be Alice's
        await asks(alice, room, "!kick", member(BERT, "leave"))
        assert driver.failures() == []


async def test_with_matrix_appservice_bridge_what_is_asked_for_is_made(
    start_server: StartServer, relay: list[str], tmp_path: Path
) -> None:
    server: Server = await start_server(appservices={"registration_files": relay[2:]})
    alice = await server.register_exactly("alice")
    command = [*relay, server.url, str(tmp_path)]
    async with driving(*command, log=tmp_path / "relay.log") as driver:
        dora = "@_relay_dora:localhost"
        assert (await alice.get("/profile/{}", dora))["displayname"] == "dora (relay)"
        await driver.tells("asked for a user", user=dora)
        await alice.get("/directory/room/{}", "#_relay_nowhere:localhost", expect=404)
        room = (await alice.join("#_relay_attic:localhost"))["room_id"]
        await driver.tells("made a room", alias="#_relay_attic:localhost", room=room)
        event = await alice.send(room, "anybody?")
        assert (await driver.tells("event", event=event))["remotes"] == ["_relay_attic"]
        await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 20000})
        await alice.post("/rooms/{}/receipt/m.read/{}", room, event, json={})
        for kind in ("m.typing", "m.receipt"):
            await driver.tells("ephemeral", type=kind, room=room)
        await asks(alice, room, "!hear _relay_attic bert here", says(BERT, "here"))
        await alice.send(room, "!write")
        await alice.sync_until(lambda reply: BERT in typing_in(reply, room), timeout=60)
        [found] = await alice.get("/thirdparty/user/{}", "relay", params={"nick": "bert"})
        assert found["userid"] == BERT
        [place] = await alice.get("/thirdparty/location", params={"alias": "#_relay_attic:localhost"})
        assert place["fields"] == {"channel": "attic"}
        assert driver.failures() == []


async def test_with_matrix_appservice_bridge_it_follows_an_upgrade_with_its_ghosts(
    start_server: StartServer, relay: list[str], tmp_path: Path
) -> None:
    server: Server = await start_server(appservices={"registration_files": relay[2:]})
    alice = await server.register_exactly("alice")
    command = [*relay, server.url, str(tmp_path)]
    async with driving(*command, log=tmp_path / "relay.log") as driver:
        room = await alice.create_room(preset="public_chat", invite=[RELAY])
        await alice.sees(room, member(RELAY, "join"), timeout=60)
        await asks(alice, room, "!link #cellar", says(RELAY, "linked to #cellar"))
        await asks(alice, room, "!hear #cellar bert it is dark", says(BERT, "it is dark"))
        newer = (await alice.post("/rooms/{}/upgrade", room, json={"new_version": "12"}))["replacement_room"]
        await driver.tells("migrated", **{"from": room, "to": newer})
        await alice.sees(newer, member(BERT, "join"), timeout=60)
        await asks(alice, newer, "!hear #cellar bert now it is light", says(BERT, "now it is light"))
        assert driver.failures() == []
    sent = [await alice.send(newer, f"line {number}") for number in range(20)]
    async with driving(*command, log=tmp_path / "relay.log") as driver:
        await told_in_order(driver, sent, "event")
        assert {each["remotes"][0] for each in driver.told if each.get("event") in sent} == {"#cellar"}
