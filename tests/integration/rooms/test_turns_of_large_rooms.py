"""Nobody waits long for one turn of the event loop, however many members a room has that somebody asks for."""

import asyncio
import json
from urllib.parse import quote

from homeserver.app import App
from tests.conftest import StartServer
from tests.support.raw_http import RawConnection
from tests.support.watchdog import Watchdog

MEMBERS = 10_000
TRIES = 3
"""At most: what takes long does so each time."""
LONG = 0.04
"""Seconds of CPU, on a machine that may be busy with other things."""
SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
EVERYTHING = {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": [["*", "*"]]}
PDU = """{"auth_events":[],"content":{"displayname":"Somebody","membership":"join"},"depth":1,"hashes":{"sha256":"x"},
"origin_server_ts":1,"prev_events":[],"room_id":%s,"sender":"USER","signatures":{},"state_key":"USER","type":"m.room.member"}"""


async def populate(app: App, room_id: str) -> None:
    """Members of another server, by way of the tables; they have joined before everybody else."""
    name = await app.core.interning.room(room_id)  # type: ignore[arg-type]  # a RoomId
    assert name is not None
    async with app.core.db.transaction() as tx:
        await tx.execute(
            """
            WITH who AS (
                INSERT INTO users (user_id) SELECT '@x' || n || ':elsewhere.example'
                FROM generate_series(1, %(count)s::int) n RETURNING user_nid, user_id
            ), keys AS (
                INSERT INTO event_keys (type, state_key) SELECT 'm.room.member', user_id FROM who
                RETURNING key_nid, state_key
            ), members AS (
                SELECT -user_nid AS event_nid, user_nid, user_id, key_nid FROM who JOIN keys ON state_key = user_id
            ), written AS (
                INSERT INTO events (event_nid, room_nid, sender_nid, state_nid, origin_server_ts, key_nid, event_id, pdu)
                SELECT event_nid, %(room)s, user_nid, 0, 1, key_nid, '$' || user_nid,
                       convert_to(replace(%(pdu)s::text, 'USER', user_id), 'UTF8') FROM members
            )
            INSERT INTO current_state (room_nid, event_nid, user_nid, key_nid, membership)
            SELECT %(room)s, event_nid, user_nid, key_nid, 1 FROM members
            """,
            count=MEMBERS,
            room=name.nid,
            pdu=PDU % json.dumps(room_id),
        )
    app.core.rooms.reset()


def forget(app: App) -> None:
    """Nothing of rooms is in memory any more."""
    app.core.rooms.reset()
    for cache in app.core.memory.caches:
        if cache.name == "state_answers":
            cache.clear()


REQUESTS: list[tuple[str, str, object, bool]] = [
    ("GET", "/sync", None, True),
    ("GET", '/sync?filter={"room":{"state":{"lazy_load_members":true}}}', None, False),
    ("GET", '/sync?filter={"room":{"state":{"not_types":["m.x*","*y"]}}}', None, True),
    ("GET", "/rooms/ROOM/members", None, True),
    ("GET", "/rooms/ROOM/joined_members", None, True),
    ("GET", "/rooms/ROOM/state", None, True),
    ("POST", SLIDING, {"lists": {"a": EVERYTHING}}, True),
]
"""What is asked, and whether the answer has all members."""


async def test_a_large_room_takes_no_long_turns(start_server: StartServer, watchdog: Watchdog) -> None:
    """SYNC-01, ROOM-19, ROOM-20; with nothing of it in memory"""
    server = await start_server()
    reader = await server.register("reader")
    room = await reader.create_room(preset="public_chat", room_version="11")
    assert server.app is not None
    await populate(server.app, room)
    dear = []
    async with RawConnection(server.url) as connection:
        for method, path, body, members in REQUESTS:
            target = quote(path.replace("ROOM", quote(room, safe="")), safe="/%?=")
            target = target if path.startswith("/_") else "/_matrix/client/v3" + target
            content = b"" if body is None else json.dumps(body).encode()
            longest = []
            for _ in range(TRIES):
                forget(server.app)
                watchdog.longest = 0.0
                answer = await connection.request(
                    method, target, {"Authorization": f"Bearer {reader.token}"}, content
                )
                assert answer.status == 200, answer.body
                assert (answer.body.count(b"Somebody") >= MEMBERS) is members
                await asyncio.sleep(0)
                longest.append(watchdog.longest)
                if longest[-1] <= LONG:
                    break
            print(f"{[round(each * 1000) for each in longest]} ms: {method} {path}")
            if min(longest) > LONG:
                dear.append(f"{min(longest) * 1000:.0f} ms: {method} {path}")
    assert not dear
