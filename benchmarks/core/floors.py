"""What requests cost at least that have to write rows, and wait until they are on the disk, or have long answers.

    python -m benchmarks.core.floors

A server of a hundred lines in a process of its own: it splits a request at its line breaks, decodes a body, writes the rows that
nobody could do without, in one transaction for all that wait, and answers with as many bytes as a homeserver would. It knows
nobody, checks nothing, and tells nobody else. CPU of it and of PostgreSQL for each operation; beside it stand the scenarios
send-to-device, drain-to-device, claim-keys, upload-keys, joined-members, members, room-state and join-one-by-one.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import itertools
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import nacl.signing
import psycopg
import uvloop
from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.procfs import Watched
from benchmarks.scenario import keep_busy
from benchmarks.servers.database import describe, own_database
from benchmarks.wire import Connection, Response, Target
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

DEVICES, BACKLOG, KEYS, MEMBERS = 200, 100, 50, 2_000
PART = b'{"content":' + b"x" * 690 + b"}"
"""A message to a device, as large as a room key in an Olm message."""
MEMBER = b"x" * 420
"""An event of a member, as a client sees it; and what `/joined_members` tells of one."""
JOINED = b"x" * 60
KEY = "x" * 190
TABLES = """
CREATE TABLE messages (device int, position bigint, content bytea, PRIMARY KEY (device, position));
CREATE TABLE keys (device int, key_id text, key text, PRIMARY KEY (device, key_id));
CREATE TABLE events (position bigint PRIMARY KEY, event_id text UNIQUE, content bytea);
CREATE TABLE members (room int, number int, event bigint, PRIMARY KEY (room, number));
"""
Write = Callable[[Pipeline], Any]


class Writes:
    """All that wait are written together."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[tuple[Write, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, write: Write) -> Any:
        """Returns what the statement returns, once it is on the disk."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as pipeline:
                found = [write(pipeline) for write, _ in batch]
            for later, (_, future) in zip(found, batch, strict=True):
                future.set_result(later.result if later is not None else None)
        self._task = None


class Floor:
    """The operations by the first part of their path."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._writes = Writes(db)
        self._position = itertools.count(1)
        self._key = nacl.signing.SigningKey(bytes(32))

    async def answer(self, path: str, body: bytes) -> bytes:
        """The body of the answer."""
        name, _, device = path[1:].partition("/")
        return await getattr(self, name)(int(device or 0), msgspec.json.decode(body) if body else None)

    async def send(self, device: int, _: Any) -> bytes:
        """One message."""
        position = next(self._position)
        await self._writes.add(
            lambda batch: batch.execute(
                "INSERT INTO messages VALUES (%(d)s, %(p)s, %(c)s)", d=device, p=position, c=PART
            )
        )
        return b"{}"

    async def read(self, device: int, _: Any) -> bytes:
        """What waits."""
        async with self._db.read() as tx:
            found = await tx.column(
                "SELECT content FROM messages WHERE device = %(d)s ORDER BY position LIMIT 100", d=device
            )
        return b'{"to_device":[' + b",".join(found) + b"]}"

    async def acknowledge(self, device: int, _: Any) -> bytes:
        """What was read goes."""
        await self._writes.add(
            lambda batch: batch.execute("DELETE FROM messages WHERE device = %(d)s", d=device)
        )
        return b"{}"

    async def upload(self, device: int, body: Any) -> bytes:
        """Fifty keys."""
        keys = body["one_time_keys"]
        values = [each["key"] for each in keys.values()]
        await self._writes.add(
            lambda batch: batch.execute(
                "INSERT INTO keys SELECT %(d)s, * FROM unnest(%(ids)s::text[], %(keys)s::text[]) ON CONFLICT DO NOTHING",
                d=device,
                ids=list(keys),
                keys=values,
            )
        )
        return b'{"one_time_key_counts":{"signed_curve25519":50}}'

    async def claim(self, _: int, body: Any) -> bytes:
        """One of each device's."""
        devices = [int(each) for each in body["one_time_keys"]]
        found = await self._writes.add(
            lambda batch: batch.all(
                """
                DELETE FROM keys k USING (
                    SELECT d.device, first.key_id FROM unnest(%(d)s::int[]) AS d (device), LATERAL (
                        SELECT key_id FROM keys WHERE keys.device = d.device ORDER BY key_id LIMIT 1) first
                ) c WHERE k.device = c.device AND k.key_id = c.key_id RETURNING k.device, k.key
                """,
                d=devices,
            )
        )
        return msgspec.json.encode(
            {str(device): {"D": {"signed_curve25519:A": key}} for device, key in found}
        )

    async def join(self, number: int, _: Any) -> bytes:
        """Hash, sign, the event and who is in the room."""
        content = b"x" * 700 + str(number).encode()
        event_id = hashlib.sha256(content).hexdigest()
        content += self._key.sign(content).signature
        position = next(self._position)

        def write(batch: Pipeline) -> Any:
            batch.execute(
                "INSERT INTO events VALUES (%(p)s, %(id)s, %(c)s)", p=position, id=event_id, c=content
            )
            return batch.execute("INSERT INTO members VALUES (1, %(n)s, %(p)s)", n=number, p=position)

        await self._writes.add(write)
        return b'{"room_id":"!aaaaaaaaaaaaaaaaaa:localhost"}'

    async def members(self, _: int, __: Any) -> bytes:
        """Events that lie in memory, one after another."""
        return b'{"chunk":[' + b",".join(itertools.repeat(MEMBER, MEMBERS)) + b"]}"

    async def joined(self, _: int, __: Any) -> bytes:
        """The same of what is told of each."""
        return b'{"joined":{' + b",".join(itertools.repeat(JOINED, MEMBERS)) + b"}}"


class Http(asyncio.Protocol):
    """As little of HTTP as a well-behaved client needs."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._came = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]) if b"Length" in head else 0
        if found and len(body) >= length:
            self._came = b""
            self._task = asyncio.create_task(self._answer(head.split(b" ", 2)[1].decode(), body))

    async def _answer(self, path: str, body: bytes) -> None:
        told = await self._floor.answer(path, body)
        self._transport.writelines(
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(told),
                told,
            )
        )


async def serve(dsn: str) -> None:
    """Print the port, serve until killed."""
    async with Database(dsn) as db:
        floor = Floor(db)
        server = await asyncio.get_running_loop().create_server(lambda: Http(floor), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


# --- the load -------------------------------------------------------------------------------------------------------------


class Load:
    """The operations as clients ask for them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connections = [Connection(target) for _ in range(8)]
        self._numbers = itertools.count()
        keys = {f"signed_curve25519:{number:06}": {"key": KEY} for number in range(KEYS)}
        self._keys = {"one_time_keys": keys}
        self._many = {"one_time_keys": {f"signed_curve25519:{n:06}": {"key": KEY} for n in range(2_000)}}

    async def _ask(self, lane: int, path: str, body: object = None) -> Response:
        method = "GET" if body is None else "POST"
        return await self._connections[lane].succeed(
            self._target.request(method, path, token="x" * 40, body=body)
        )

    async def _next(self, lane: int, name: str, body: object = None) -> Response:
        return await self._ask(lane, f"/{name}/{next(self._numbers)}", body)

    async def _once(self, meter: Meter, lanes: int, work: Callable[[int], Awaitable[Response]]) -> None:
        await keep_busy(meter, [functools.partial(work, lane) for lane in range(lanes)])

    async def measure(self, name: str, meter: Meter) -> None:
        """See the titles in `main`."""
        message = {"messages": {"@somebody:localhost": {"D": PART.decode()}}}
        if name == "send":
            await self._once(meter, 4, lambda lane: self._ask(lane, f"/send/{lane}", message))
        elif name == "upload":
            await self._once(meter, 4, lambda lane: self._next(lane, "upload", self._keys))
        elif name == "join":
            await self._once(meter, 1, lambda lane: self._next(lane, "join", {}))
        elif name == "drain":
            devices = range(1_000, 1_128)
            while meter.open_seconds < meter.seconds / 4:  # filling takes ten times as long
                await asyncio.gather(*(self._fill(lane, devices) for lane in range(8)))
                async with meter.window():
                    await asyncio.gather(*(self._drain(meter, lane, devices) for lane in range(8)))
        elif name == "claim":
            for device in range(DEVICES):
                await self._ask(0, f"/upload/{device}", self._many)
            asked = {"one_time_keys": {str(device): {"D": "signed_curve25519"} for device in range(DEVICES)}}
            await self._once(meter, 1, lambda lane: self._ask(lane, "/claim", asked))
        else:
            await self._once(meter, 4, lambda lane: self._ask(lane, f"/{name}"))

    async def _fill(self, lane: int, devices: range) -> None:
        for device in devices[lane::8]:
            for _ in range(BACKLOG):
                await self._ask(lane, f"/send/{device}", {})

    async def _drain(self, meter: Meter, lane: int, devices: range) -> None:
        for device in devices[lane::8]:
            answer = await self._ask(lane, f"/read/{device}")
            await self._ask(lane, f"/acknowledge/{device}")
            meter.record(answer.seconds)


TITLES = {
    "send": "a message to a device",
    "drain": "100 messages to a device read and acknowledged",
    "claim": "the keys of 200 devices claimed",
    "upload": "50 one-time keys uploaded",
    "join": "a join, one after another",
    "joined": "/joined_members, 2 000",
    "members": "/members, /state, 2 000",
}


async def measured(port: int, pids: tuple[int, int], seconds: float) -> None:
    """One line for each operation."""
    for name, title in TITLES.items():
        load, watched = Load(Target("127.0.0.1", port)), Watched((pids[0],), (pids[1],))
        for length in (0.5, seconds):
            meter = Meter(watched, length)
            await load.measure(name, meter)
        server, database = (
            each / meter.operations * 1000 for each in (meter.usage.server, meter.usage.database)
        )
        print(f"{title:50} {server:8.3f} + {database:6.3f} = {server + database:7.3f} ms", flush=True)


async def main(seconds: float) -> None:
    """Start everything, measure."""
    with (
        tempfile.TemporaryDirectory(prefix="atrium-floors-", ignore_cleanup_errors=True) as folder,
        own_database(Path(folder), "floors") as (postgres, dsn),
    ):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.core.floors", "--serve", dsn, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        port = int(await child.stdout.readline())
        try:
            await measured(port, (child.pid, postgres.pid or 0), seconds)
        finally:
            child.terminate()
            await child.wait()
        print(describe(dsn))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="DSN", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.serve) if chosen.serve else main(chosen.seconds))
