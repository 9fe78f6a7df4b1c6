"""What a redaction takes away is kept apart for the configured time, served by nothing, and destroyed then
(docs/decisions/0005-redaction-in-place.md).
"""

import asyncio
import contextlib
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from homeserver.events.packing import unpack
from homeserver.matrix.ids import RoomId
from homeserver.storage.database import Database
from tests.conftest import StartServer
from tests.support.forks import Fork, receive
from tests.support.graph import process
from tests.support.server import PASSWORD, Server
from tests.support.user import User

SECRET = "unspeakable-7c1f"
GROUPS = re.compile(r"\{(\w+)\}")


async def originals(dsn: str) -> dict[int, str]:
    """event_nid -> JSON, of all that is kept."""
    async with Database(dsn, size=1) as db, db.read() as tx:
        rows = await tx.all(
            "SELECT event_nid, room_id, pdu FROM redacted_originals o JOIN rooms r ON r.room_nid = o.room_nid"
        )
    return {nid: unpack(bytes(pdu), RoomId(room)).decode() for nid, room, pdu in rows}


async def tables_with(dsn: str, word: str) -> set[str]:
    """Tables with a row in which the word stands, as text, as bytes, or in a packed event."""
    found = set()
    async with Database(dsn, size=1) as db, db.read() as tx:
        tables = await tx.column("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {"events", "log_feed", "redacted_originals", "jobs"} <= set(tables)
        for table in tables:
            row: str
            for row in await tx.column(f"SELECT t::text FROM {table} t"):
                blobs = [bytes.fromhex(each) for each in re.findall(r"\\x([0-9a-f]*)", row)]
                texts = [*blobs, *map(unpacked, blobs)]
                if word in row or any(word.encode() in text for text in texts):
                    found.add(table)
    return found


def unpacked(blob: bytes) -> bytes:
    """The JSON of a packed event; other bytes, which may begin as one, as they are."""
    with contextlib.suppress(zlib.error):
        return unpack(blob, RoomId("!"))
    return blob


async def set_back(dsn: str, seconds: float) -> None:
    """As if originals had been kept for so much longer."""
    async with Database(dsn, size=1) as db, db.transaction() as tx:
        await tx.execute(
            "UPDATE redacted_originals SET kept_since = kept_since - %(seconds)s * interval '1 second'",
            seconds=seconds,
        )


async def hold(dsn: str) -> None:
    async with Database(dsn, size=1) as db, db.transaction() as tx:
        await tx.execute("UPDATE redacted_originals SET held = true")


async def destroy_due(server: Server) -> int:
    assert server.app is not None
    return await server.app.core.originals.destroy_due()


async def said_and_taken_back(alice: User, room: str) -> tuple[str, str]:
    """A message and a state event, both redacted. Their ids."""
    said = await alice.send(room, f"{SECRET} words")
    topic = (await alice.put("/rooms/{}/state/m.room.topic/", room, json={"topic": f"{SECRET} topic"}))[
        "event_id"
    ]
    await alice.redact(room, said)
    await alice.redact(room, topic)
    return said, topic


async def asked_everywhere(server: Server, who: User, room: str, event: str) -> list[str]:
    """Operations whose answer has the secret: every GET endpoint of the server, and what reads by POST."""
    assert server.app is not None
    values = {
        "roomId": room,
        "roomIdOrAlias": room,
        "eventId": event,
        "userId": who.user_id,
        "deviceId": who.device_id,
        "serverName": who.server_name,
    }
    values |= {"eventType": "m.room.topic", "stateKey": "", "relType": "m.thread", "type": "m.direct"}
    telling, asked = [], 0
    for endpoint in server.app.registry:
        reads = endpoint.method == "GET" or endpoint.operation_id in {
            "queryPublicRooms",
            "searchUserDirectory",
        }
        if not reads:
            continue
        for template in endpoint.paths:
            path = GROUPS.sub(lambda match: "v3" if match[1] == "v" else "{}", template)
            names = [name for name in GROUPS.findall(template) if name != "v"]
            arguments = [values.get(name, "x") for name in names]
            params = {
                "timeout": "0",
                "dir": "b",
                "limit": "100",
                "ts": "0",
                "full_state": "true",
                "room_id": room,
            }
            body: dict[str, Any] = {} if endpoint.method == "GET" else {"json": {"search_term": SECRET}}
            answer = await who.exchange(endpoint.method, path, *arguments, params=params, expect=None, **body)
            asked += 1
            if SECRET.encode() in answer.body:
                telling.append(endpoint.operation_id)
    assert asked > 60
    return telling


async def test_red_04_the_original_is_kept_apart_and_nothing_serves_it(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", visibility="public")
    await bob.join(room)
    said = await alice.send(room, f"{SECRET} once")
    assert set(await asked_everywhere(server, bob, room, said)) >= {
        "sync",
        "getRoomEvents",
        "getOneRoomEvent",
    }
    await alice.redact(room, said)
    said, topic = await said_and_taken_back(alice, room)
    kept = list((await originals(server.dsn)).values())
    assert len(kept) == 3
    assert all(SECRET in text for text in kept)
    for event in (said, topic):
        assert await asked_everywhere(server, bob, room, event) == []
        assert await asked_everywhere(server, alice, room, event) == []
    assert await tables_with(server.dsn, SECRET) == {"redacted_originals"}
    assert server.app is not None
    server.app.core.rooms.reset()  # and from the database
    assert await asked_everywhere(server, bob, room, said) == []


async def test_originals_are_destroyed_after_their_time_and_not_before(start_server: StartServer) -> None:
    server = await start_server(rooms={"redacted_originals": "7d"})
    alice = await server.register("alice")
    await said_and_taken_back(alice, await alice.create_room())
    day = 24 * 3600
    await set_back(server.dsn, 7 * day - 60)
    assert await destroy_due(server) == 0
    await set_back(server.dsn, 60)
    assert await destroy_due(server) == 2
    assert await tables_with(server.dsn, SECRET) == set()


async def test_what_is_held_stays(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    await said_and_taken_back(alice, room)
    await hold(server.dsn)
    await alice.redact(room, await alice.send(room, "not held"))
    await set_back(server.dsn, 365 * 24 * 3600)
    assert await destroy_due(server) == 1
    assert len(await originals(server.dsn)) == 2


async def test_more_than_one_batch_goes_in_one_round(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.graph.write.originals.AT_ONCE", 2)
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    for number in range(5):
        await alice.redact(room, await alice.send(room, f"{number}"))
    await set_back(server.dsn, 365 * 24 * 3600)
    assert await destroy_due(server) == 5


async def test_nothing_is_kept_if_so_configured(start_server: StartServer) -> None:
    server = await start_server(rooms={"redacted_originals": 0})
    alice = await server.register("alice")
    await said_and_taken_back(alice, await alice.create_room())
    assert await tables_with(server.dsn, SECRET) == set()


async def test_what_is_redacted_twice_is_kept_once(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="trusted_private_chat", invite=[bob.user_id])
    await bob.join(room)
    said = await alice.send(room, SECRET)
    await asyncio.gather(alice.redact(room, said), bob.redact(room, said))
    await alice.redact(room, said)
    assert [SECRET in text for text in (await originals(server.dsn)).values()] == [True]


@pytest.mark.parametrize("first", ["target", "redaction"])
@pytest.mark.parametrize("keep", [True, False])
async def test_red_02_originals_of_redactions_from_elsewhere(
    database: str, tmp_path: Path, first: str, keep: bool
) -> None:
    """Whichever comes first: what is redacted as it comes never stood among the events."""
    async with process(database, tmp_path, rooms={"redacted_originals": "7d" if keep else 0}) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        fork = await Fork.of(here, room_id)
        branch = fork.branch()
        mod = "@mod:two.example"
        branch.says(mod, "m.room.member", mod, {"membership": "join"})
        await receive(here, *branch.events)
        fork = await Fork.of(here, room_id)
        spoken, taken_back = fork.branch(), fork.branch()
        target = spoken.says(mod, "m.room.message", None, {"msgtype": "m.text", "body": SECRET})
        away = taken_back.says(mod, "m.room.redaction", None, {"redacts": target.event_id})
        await receive(here, *((target, away) if first == "target" else (away, target)))
    kept = await originals(database)
    assert [SECRET in text for text in kept.values()] == ([True] if keep else [])
    assert await tables_with(database, SECRET) == ({"redacted_originals"} if keep else set())


@pytest.mark.parametrize("erase", [True, False])
async def test_auth_29_of_who_is_erased_nothing_is_kept_but_what_is_held(
    start_server: StartServer, *, erase: bool
) -> None:
    """Without the wish to be erased, an account that ends leaves what it redacted for its time."""
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    held = await alice.send(room, f"{SECRET} held")
    await alice.redact(room, held)
    await hold(server.dsn)
    await alice.redact(room, await alice.send(room, f"{SECRET} words"))
    await bob.redact(room, await bob.send(room, "of somebody else"))
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    await alice.post("/account/deactivate", json={"auth": auth, "erase": erase})
    texts = "".join((await originals(server.dsn)).values())
    assert f"{SECRET} held" in texts
    assert "of somebody else" in texts
    assert (f"{SECRET} words" in texts) is not erase
