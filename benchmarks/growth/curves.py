"""What grows, and what is asked of it. Data is built through the product's own writers, or by COPY where that takes hours."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

import psycopg

from benchmarks.core.search import Client, _pdu
from benchmarks.growth.place import Figures, Kept, Operation, Place, many
from homeserver.matrix.ids import RoomId
from homeserver.rooms.creation import CreateRoom

Open = Callable[[Client | None], AbstractAsyncContextManager[Place]]
"""Starts the server; for somebody who is logged in already, if given."""
Grow = Callable[[Place, int, int], Awaitable[None]]

LAZY = '{"room":{"timeline":{"limit":10},"state":{"lazy_load_members":true}}}'
_numbers = itertools.count()


async def _send(here: Place, room_id: str) -> None:
    path = f"/rooms/{quote(room_id)}/send/m.room.message/t{next(_numbers)}"
    await here.answer("PUT", path, {"msgtype": "m.text", "body": "Hello"})


async def _since(here: Place) -> str:
    """A token of now."""
    async with here.app.core.db.read() as tx:
        return f"s{await tx.value('SELECT position FROM log_head')}"


async def _busy(here: Place, room_id: str) -> None:
    since = await _since(here)
    await _send(here, room_id)
    await here.answer("GET", "/sync", since=since, filter=LAZY)


# ----------------------------------------------------------------------------------------------------------- rooms


FRESH = Kept()
PAST = 1.1
"""What has grown to so many times a size is not measured for it any more."""


async def rooms(open_: Open, sizes: list[int], kept: Kept = FRESH) -> AsyncIterator[Figures]:
    """Rooms of a user. Goes on from what is there."""
    figures = Figures("Rooms of a user", "rooms")
    async with open_(kept.client) as here:
        me = await here.requester("reader")
        async with here.app.core.db.read() as tx:
            made: list[RoomId] = await tx.column("SELECT room_id FROM rooms ORDER BY room_nid")

        async def make() -> None:
            made.append(await here.app.features.rooms.creation.create(me, CreateRoom(name="A room")))

        window = {"lists": {"all": {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": []}}}
        sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
        for size in sizes:
            if len(made) > size * PAST:
                continue
            began = time.monotonic()
            await many([make] * (size - len(made)), until=kept.until)
            print(f"{len(made)} rooms after {time.monotonic() - began:.0f} s", flush=True)
            if time.monotonic() > kept.until:
                break
            if not kept.measures:
                continue
            since = await _since(here)
            await here.measure(
                figures,
                size,
                {
                    "idle sync": lambda since=since: here.answer("GET", "/sync", since=since),
                    "send and incremental sync": lambda: _busy(here, made[0]),
                    "first window of 20, sliding sync": lambda: here.answer("POST", sliding, window),
                    "joined_rooms": lambda: here.answer("GET", "/joined_rooms"),
                    "first sync": lambda: here.answer("GET", "/sync", filter=LAZY),
                },
            )
            yield figures


# --------------------------------------------------------------------------------------------------------- members


async def members(open_: Open, sizes: list[int], kept: Kept = FRESH) -> AsyncIterator[Figures]:
    """Members of a room. Goes on from what is there."""
    figures = Figures("Members of a room", "members")
    async with open_(kept.client) as here:
        async with here.app.core.db.read() as tx:
            there = await tx.value("SELECT room_id FROM rooms ORDER BY room_nid LIMIT 1")
            have = 1 + await tx.value("SELECT count(*) FROM users WHERE user_id LIKE '@user%%'")
        public = CreateRoom(preset="public_chat")
        room_id = there or await here.app.features.rooms.creation.create(
            await here.requester("reader"), public
        )
        joined = itertools.count(have)

        async def join() -> None:
            person = await here.requester(f"user{next(joined)}")
            await here.app.features.rooms.membership.join(person, room_id)

        for size in sizes:
            if have > size * PAST:
                continue
            began = time.monotonic()
            await many([join] * (size - have), until=kept.until)
            async with here.app.core.db.read() as tx:
                have = 1 + await tx.value("SELECT count(*) FROM users WHERE user_id LIKE '@user%%'")
            print(f"{have} members after {time.monotonic() - began:.0f} s", flush=True)
            if time.monotonic() > kept.until:
                break
            if not kept.measures:
                continue
            room = f"/rooms/{quote(room_id)}"
            await here.measure(
                figures,
                size,
                {
                    "send": lambda: _send(here, room_id),
                    "send and incremental sync": lambda: _busy(here, room_id),
                    "join": join,
                    "first sync of a member": lambda: here.answer("GET", "/sync", filter=LAZY),
                    "joined_members": lambda room=room: here.answer("GET", f"{room}/joined_members"),
                    "members": lambda room=room: here.answer("GET", f"{room}/members"),
                },
            )
            yield figures


# ---------------------------------------------------------------------------------------------------------- events


async def events(open_: Open, sizes: list[int]) -> AsyncIterator[Figures]:
    """Events of a room; by COPY, between two starts."""
    figures = Figures("Events of a room", "events")
    async with open_(None) as here:
        room_id = await here.app.features.rooms.creation.create(
            await here.requester("reader"), CreateRoom(preset="public_chat")
        )
        client, dsn = here.client, here.app.core.db.dsn
    have = 10
    ids: list[str] = []
    for size in sizes:
        began = time.monotonic()
        ids += _write_events(dsn, room_id, size - have)
        have = size
        print(f"{size} events after {time.monotonic() - began:.0f} s", flush=True)
        async with open_(client) as here:
            room, middle = f"/rooms/{quote(room_id)}", quote(ids[len(ids) // 2])
            context = json.loads(await here.answer("GET", f"{room}/context/{middle}", limit="0"))
            stamp = str(int(time.time() * 1000) - size // 2)
            page = functools.partial(here.answer, "GET", f"{room}/messages", dir="b", limit="50")
            await here.measure(
                figures,
                size,
                {
                    "send": lambda here=here: _send(here, room_id),
                    "first sync": lambda here=here: here.answer("GET", "/sync", filter=LAZY),
                    "the newest page of 50": page,
                    "a page of 50 from the middle": functools.partial(page, **{"from": context["start"]}),
                    "an event with context": functools.partial(
                        here.answer, "GET", f"{room}/context/{middle}"
                    ),
                    "the event of a moment": functools.partial(
                        here.answer, "GET", f"/_matrix/client/v1{room}/timestamp_to_event", ts=stamp, dir="f"
                    ),
                },
            )
        yield figures


def _write_events(dsn: str, room_id: str, count: int) -> list[str]:
    """Behind the server's back, after the newest. Returns their ids."""
    chance, ids = random.Random(count), []  # ids that only have to differ
    with psycopg.connect(dsn) as connection:
        head = connection.execute("SELECT position FROM log_head").fetchone()
        room = connection.execute(
            "SELECT room_nid, state_nid FROM rooms WHERE room_id = %s", [room_id]
        ).fetchone()
        user = connection.execute(
            "SELECT user_nid, user_id FROM users WHERE user_id LIKE '@reader:%'"
        ).fetchone()
        assert head is not None
        assert room is not None
        assert user is not None
        first, now = head[0] + 1, int(time.time() * 1000)
        columns = "event_nid, room_nid, sender_nid, state_nid, origin_server_ts, flags, event_id, pdu"
        with connection.cursor().copy(f"COPY events ({columns}) FROM STDIN".encode()) as copy:
            for number in range(count):
                ids.append("$" + base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("="))
                ts = now - count + number
                pdu = _pdu(f"Message {number}", room_id, user[1], ts)
                copy.write_row((first + number, room[0], user[0], room[1], ts, 0, ids[-1], pdu))
        connection.execute("UPDATE log_head SET position = %s", [first + count])
        connection.execute("UPDATE log_readers SET position = %s", [first + count])
        connection.execute("DELETE FROM log_feed")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) events")
    return ids


# --------------------------------------------------------------------------------------------------------- devices


async def devices(open_: Open, sizes: list[int]) -> AsyncIterator[Figures]:
    """Devices of a user, with keys; by COPY, between two starts."""
    figures = Figures("Devices of a user", "devices")
    async with open_(None) as here:
        client, dsn = here.client, here.app.core.db.dsn
        own = json.loads(await here.answer("GET", "/account/whoami"))["device_id"]
    have = 1
    for size in sizes:
        _write_devices(dsn, range(have, size))
        have = size
        async with open_(client) as here:
            since = await _since(here)
            everybody = {"messages": {"@reader:localhost": {"*": {"a": "b"}}}}
            one = {"messages": {"@reader:localhost": {own: {"a": "b"}}}}
            operations: dict[str, Operation] = {
                "idle sync": functools.partial(here.answer, "GET", "/sync", since=since, filter=LAZY),
                "query the keys of one": functools.partial(
                    here.answer, "POST", "/keys/query", {"device_keys": {"@reader:localhost": [own]}}
                ),
                "query the keys of all": functools.partial(
                    here.answer, "POST", "/keys/query", {"device_keys": {"@reader:localhost": []}}
                ),
                "list the devices": functools.partial(here.answer, "GET", "/devices"),
                "rename one": functools.partial(
                    here.answer, "PUT", f"/devices/{own}", {"display_name": "New"}
                ),
                "a message to one": functools.partial(_to_device, here, one),
            }
            if size <= 10_000:
                operations["a message to all"] = functools.partial(_to_device, here, everybody)
            await here.measure(figures, size, operations)
        yield figures


async def _to_device(here: Place, body: object) -> None:
    await here.answer("PUT", f"/sendToDevice/m.test/t{next(_numbers)}", body)


def _write_devices(dsn: str, numbers: range) -> None:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT user_nid FROM users WHERE user_id LIKE '@reader:%'").fetchone()
        assert row is not None
        with connection.cursor().copy(b"COPY devices (user_nid, device_id, created_ms) FROM STDIN") as copy:
            for number in numbers:
                copy.write_row((row[0], f"DEVICE{number}", 0))
        with connection.cursor().copy(b"COPY device_keys (user_nid, device_id, keys) FROM STDIN") as copy:
            for number in numbers:
                copy.write_row((row[0], f"DEVICE{number}", _keys(f"DEVICE{number}")))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) devices, device_keys")


def _keys(device: str) -> bytes:
    keys = {f"ed25519:{device}": "a" * 43, f"curve25519:{device}": "b" * 43}
    signatures = {"@reader:localhost": {f"ed25519:{device}": "c" * 86}}
    found = {
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "device_id": device,
        "keys": keys,
        "signatures": signatures,
        "user_id": "@reader:localhost",
    }
    return json.dumps(found, separators=(",", ":")).encode()


# --------------------------------------------------------------------------------------------------------- backlog


async def backlog(open_: Open, sizes: list[int]) -> AsyncIterator[Figures]:
    """Messages that wait for a device; by COPY, between two starts."""
    figures = Figures("Messages that wait for a device", "messages")
    async with open_(None) as here:
        client, dsn = here.client, here.app.core.db.dsn
        own = json.loads(await here.answer("GET", "/account/whoami"))["device_id"]
        start = await _since(here)
    have = 0
    for size in sizes:
        _write_backlog(dsn, own, size - have)
        have = size
        async with open_(client) as here:
            one = {"messages": {"@reader:localhost": {own: {"a": "b"}}}}
            await here.measure(
                figures,
                size,
                {
                    "a sync that brings the first of them": functools.partial(
                        here.answer, "GET", "/sync", since=start, filter=LAZY
                    ),
                    "one more message": functools.partial(_to_device, here, one),
                },
            )
        yield figures


def _write_backlog(dsn: str, device: str, count: int) -> None:
    message = json.dumps(
        {"sender": "@other:localhost", "type": "m.room.encrypted", "content": {"c": "d" * 500}}
    )
    with psycopg.connect(dsn) as connection:
        head = connection.execute("SELECT position FROM log_head").fetchone()
        user = connection.execute("SELECT user_nid FROM users WHERE user_id LIKE '@reader:%'").fetchone()
        assert head is not None
        assert user is not None
        with connection.cursor().copy(
            b"COPY to_device (user_nid, device_id, position, message) FROM STDIN"
        ) as copy:
            for number in range(1, count + 1):
                copy.write_row((user[0], device, head[0] + number, message.encode()))
        connection.execute("UPDATE log_head SET position = %s", [head[0] + count])
        connection.execute("UPDATE log_readers SET position = %s", [head[0] + count])
        connection.execute("DELETE FROM log_feed")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) to_device")
