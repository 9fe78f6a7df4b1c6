"""Somebody innocent who talks in a room of their own while others make trouble, and notes what they notice of it.

One device sends, one message at a time and over several connections in turn, so that every process of a server is asked; another
device waits in `/sync` for what the first says. What the trouble costs them is told in units of what they need alone in the same
run: the machine may be slow or busy, the ratio says whether others are made to wait.

They live in a process of their own (`python -m tests.support.bystander URL NUMBER`): in the one that makes the trouble they would
wait for that, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.people import Person, register
from benchmarks.wire import Connection, RequestFailed, Target
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
CONNECTIONS = 4
PAUSE = 0.03
"""Seconds between an answer and the next message: at most some thirty messages a second."""
PATIENCE = 60.0
"""Seconds after which a request that is not answered counts as refused."""
SHORT = 0.5
"""Seconds of waiting in which a share of the whole says nothing: where all of the trouble is over that soon."""
FLOOR = 0.01
"""Seconds that a message counts as needing alone at least: less is measured too inexactly to be multiplied."""
ALONE = 40
"""Messages from which is known what one needs."""
_FILTER = quote('{"room":{"timeline":{"limit":500}},"presence":{"types":[]}}')
_numbers = count(1)


@dataclass
class Noticed:
    """What they noticed for a while; times in seconds."""

    sent: list[float] = field(default_factory=list)
    """From a message's first byte to its answer."""
    heard: list[float] = field(default_factory=list)
    """From a message's first byte to the moment when the other device has it."""
    refused: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    """Event IDs of the messages that were answered with 200."""
    seconds: float = 0.0
    """How long it went on."""

    @property
    def needs(self) -> float:
        """What a message needed in the middle."""
        return statistics.median(self.sent)

    def __str__(self) -> str:
        if not self.sent:
            return f"nothing sent in {self.seconds:.1f} s, refused {len(self.refused)}"
        told = (statistics.median(self.sent), max(self.sent), max(self.heard, default=0.0))
        middle, worst, last = (f"{each * 1000:.0f}" for each in told)
        return (
            f"{len(self.sent)} messages in {self.seconds:.1f} s: {middle} ms, at worst {worst} ms, heard after {last} ms at worst; "
            f"refused {len(self.refused)} {self.refused[:3]}"
        )


class Bystander:
    """The process in which they live. Make with `arrive`, end with `leave`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def arrive(cls, url: str) -> Bystander:
        """Register, on two devices, with a room of their own."""
        here = (sys.executable, "-m", "tests.support.bystander", url, str(next(_numbers)))
        process = await asyncio.create_subprocess_exec(
            *here, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=1 << 24
        )
        bystander = cls(process)
        assert await bystander._line() == {}, "the bystander does not start"
        return bystander

    async def leave(self) -> None:
        """Their process ends with its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def alone(self) -> Noticed:
        """What they need while nobody else asks for anything."""
        self._tell("alone")
        return Noticed(**await self._line())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Noticed]:
        """They talk and listen until the block ends; what they noticed is there then."""
        noticed = Noticed()
        self._tell("watch")
        assert await self._line() == {}
        try:
            yield noticed
        finally:
            self._tell("over")
            vars(noticed).update(await self._line())

    async def misses(self, event_ids: list[str]) -> list[str]:
        """Those of the events that are not there."""
        self._tell(json.dumps(event_ids))
        return list(await self._line())

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the bystander has ended"
        return json.loads(line)


class _Devices:
    """What runs in the process: two devices of one account."""

    def __init__(self, writer: Person, listener: Person, room: str, since: str) -> None:
        self._writers = [writer, *(writer.another_connection() for _ in range(CONNECTIONS - 1))]
        self._listener = listener
        self._room = room
        self._since = since
        self._begun: dict[str, float] = {}
        self._numbers = count()

    @classmethod
    async def arrive(cls, target: Target, name: str) -> _Devices:
        writer = await register(Connection(target), name)
        listener = await writer.log_in_again()
        room = await writer.make_room()
        return cls(writer, listener, room, (await listener.sync()).json()["next_batch"])

    async def alone(self) -> Noticed:
        await self._say(Noticed())  # whoever speaks first waits for what is loaded

        async def some(noticed: Noticed) -> None:
            for _ in range(ALONE):
                await self._say(noticed)
                await asyncio.sleep(PAUSE)

        return await self._listening(some)

    async def until(self, over: asyncio.Event) -> Noticed:
        async def talk(noticed: Noticed) -> None:
            while not over.is_set():
                await self._say(noticed)
                await asyncio.sleep(PAUSE)

        return await self._listening(talk)

    async def _listening(self, talk: Callable[[Noticed], Awaitable[None]]) -> Noticed:
        """Listen while one talks, and until everything is heard."""
        noticed, began = Noticed(), time.perf_counter()
        listening = asyncio.create_task(self._listen(noticed))
        await talk(noticed)
        noticed.seconds = time.perf_counter() - began

        async def all_heard() -> bool:
            return not self._begun

        try:
            await until(all_heard, within=PATIENCE)
        except TimeoutError:
            noticed.refused.append(f"{len(self._begun)} messages never came")
        self._begun.clear()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        return noticed

    async def _say(self, noticed: Noticed) -> None:
        number = next(self._numbers)
        writer, body = self._writers[number % CONNECTIONS], f"message {number}"
        path = f"/rooms/{quote(self._room)}/send/m.room.message/b{number}"
        request = writer.request("PUT", path, {"msgtype": "m.text", "body": body})
        self._begun[body] = began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await writer.connection.succeed(request)
        except (TimeoutError, OSError, RequestFailed) as error:
            self._begun.pop(body, None)
            noticed.refused.append(f"send: {error or 'no answer'}")
        else:
            noticed.acknowledged.append(answer.json()["event_id"])
            noticed.sent.append(time.perf_counter() - began)

    async def _listen(self, noticed: Noticed) -> None:
        while True:
            path = f"/sync?timeout=5000&filter={_FILTER}&since={quote(self._since)}"
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await self._listener.connection.succeed(self._listener.request("GET", path))
            except (TimeoutError, OSError, RequestFailed) as error:
                noticed.refused.append(f"sync: {error or 'no answer'}")
                await asyncio.sleep(PAUSE)
                continue
            news = answer.json()
            self._since = news["next_batch"]
            room = news.get("rooms", {}).get("join", {}).get(self._room, {})
            for event in room.get("timeline", {}).get("events", []):
                began = self._begun.pop(event["content"].get("body", ""), None)
                if began is not None:
                    noticed.heard.append(time.perf_counter() - began)

    async def misses(self, event_ids: list[str]) -> list[str]:
        writer = self._writers[0]
        missing = []
        for event_id in event_ids:
            path = f"/rooms/{quote(self._room)}/event/{quote(event_id)}"
            if (await writer.connection.send(writer.request("GET", path))).status != 200:
                missing.append(event_id)
        return missing

    def leave(self) -> None:
        for person in (*self._writers, self._listener):
            person.connection.close()


def judge(alone: Noticed, during: Noticed, *, times: float, worst: float | None = None) -> None:
    """AssertionError if they were refused anything, or waited too long.

    A message may need `times` as long in the middle as it needs alone, and no message more than `worst`, a share of the whole
    time that the trouble took: who has to wait for all of it is served last, not beside it.
    """
    print(f"  alone:  {alone}\n  during: {during}")
    assert not during.refused, during
    assert during.sent, during
    assert during.needs <= times * max(alone.needs, FLOOR), f"{times} times as long: {alone} / {during}"
    if worst is not None:
        limit = max(worst * during.seconds, times * max(alone.needs, FLOOR), SHORT)
        assert max(during.sent) <= limit, f"more than {worst:.0%} of it all: {during}"
        assert max(during.heard, default=0.0) <= limit, f"more than {worst:.0%} of it all: {during}"


async def _live(url: str, number: str) -> None:
    """Do what standard input says, line by line, until it ends."""
    loop, commands = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    devices = await _Devices.arrive(Target.parse(url), f"bystander{number}.{os.urandom(3).hex()}")
    print("{}", flush=True)
    over, watching = asyncio.Event(), None
    while line := (await commands.readline()).strip():
        if line == b"watch":
            over.clear()
            watching = asyncio.create_task(devices.until(over))
            answer: object = {}
        elif line == b"over":
            over.set()
            assert watching is not None
            answer = asdict(await watching)
        else:
            answer = (
                asdict(await devices.alone()) if line == b"alone" else await devices.misses(json.loads(line))
            )
        print(json.dumps(answer), flush=True)
    devices.leave()


if __name__ == "__main__":
    asyncio.run(_live(*sys.argv[1:]))
