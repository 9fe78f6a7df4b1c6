"""Two processes with a reader each, an other side that fails at random, and somebody who kills: nothing is lost."""

import asyncio
import contextlib
import random
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from homeserver.log.readers import store
from homeserver.storage.database import Database
from tests.support.notes import Note, NoteProcess, note_process
from tests.support.waiting import until

SCRIPT = Path(__file__).with_name("reader_process.py")
KEYS = [f"k{number}" for number in range(10)]
NOTES = 10_000

pytestmark = pytest.mark.reliability


class OtherSide:
    """Takes what is delivered over HTTP; refuses, hangs, or dies after it has taken it, at random."""

    def __init__(self, db: Database, seed: int) -> None:
        self._db = db
        self._chance = random.Random(seed)
        self.got: dict[str, list[int]] = defaultdict(list)
        self._position: dict[str, int] = defaultdict(int)
        self.again = 0
        self.wrong: list[str] = []
        self.last = time.monotonic()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        luck = self._chance.random()
        if luck < 0.05:
            return web.Response(status=503)
        if luck < 0.06:
            await asyncio.sleep(1)  # longer than the reader waits
            return web.Response(status=504)
        await self._take(body["key"], body["items"])
        if luck > 0.97 and request.transport is not None:
            request.transport.abort()  # it has taken them, and nobody hears of it
        return web.Response()

    async def _take(self, key: str, items: list[list[int]]) -> None:
        acknowledged = await self._acknowledged(key)
        for position, number in items:
            if position <= acknowledged:
                self.wrong.append(
                    f"{key}: {position} came again after it was acknowledged up to {acknowledged}"
                )
            if position <= self._position[key]:
                self.again += 1
                continue
            self._position[key] = position
            self.got[key].append(number)
            self.last = time.monotonic()

    async def has_all(self) -> bool:
        return sum(map(len, self.got.values())) >= NOTES

    async def _acknowledged(self, key: str) -> int:
        async with self._db.read() as tx:
            row = await tx.one(
                "SELECT position FROM log_cursors WHERE reader = 'notes' AND key = %(key)s", key=key
            )
        return row[0] if row else 0


async def start(dsn: str, port: int) -> asyncio.subprocess.Process:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        dsn,
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def runs_at(db: Database) -> str | None:
    async with db.read() as tx:
        return next((each.owner for each in await store.list_readers(tx) if each.lease_ended < 0), None)


async def runs_elsewhere(db: Database, before: str | None) -> bool:
    return await runs_at(db) not in (None, before)


async def test_a_reader_loses_nothing_while_both_sides_die(database: str) -> None:
    takeovers: list[float] = []
    chance = random.Random(7)
    async with Database(database, size=4) as db, note_process(database) as writer:
        other = OtherSide(db, seed=7)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/", other.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        children = [await start(database, port) for _ in range(2)]
        try:
            writing = asyncio.create_task(write(writer))
            for _ in range(6):
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                number = chance.randrange(2)
                before = await runs_at(db)
                children[number].kill()
                await children[number].wait()
                killed = time.monotonic()
                with contextlib.suppress(TimeoutError):  # then it was the other one that ran it
                    await until(partial(runs_elsewhere, db, before), within=4.5, every=0.05)
                    takeovers.append(time.monotonic() - killed)
                children[number] = await start(database, port)
            await writing
            await until(other.has_all, within=60, every=0.1)
        finally:
            for child in children:
                if child.returncode is None:
                    child.kill()
                await child.wait()
            await runner.cleanup()
    print(
        f"{NOTES} notes; {other.again} came twice, unacknowledged; takeovers (s): {[round(t, 1) for t in takeovers]}"
    )
    assert other.wrong == []
    assert dict(other.got) == {key: list(range(index, NOTES, len(KEYS))) for index, key in enumerate(KEYS)}
    assert takeovers
    assert max(takeovers) < 5.0


async def write(writer: NoteProcess) -> None:
    for first in range(0, NOTES, 25):
        notes = [Note(KEYS[number % len(KEYS)], number) for number in range(first, first + 25)]
        await writer.write(*notes)
        await asyncio.sleep(0.01)
