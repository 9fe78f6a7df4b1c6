"""Nothing lost: the server is killed at random moments under load; what was acknowledged is there, in order, exactly once.

Senders repeat an unanswered request with the same transaction id until it is answered; a client syncs with the token it
had. `fsync` and `synchronous_commit` are on. Every third kill takes the database with it.
"""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.process import HomeserverProcess

KILLS = [20, pytest.param(50, marks=pytest.mark.load)]
SENDERS = 4


@dataclass
class World:
    """Everybody who talks to the server, and what they were told."""

    http: aiohttp.ClientSession
    base: str
    tokens: list[str] = field(default_factory=list)
    room_id: str = ""
    acknowledged: list[list[tuple[str, str]]] = field(default_factory=list)
    """Per sender: (body, event_id), in the order of the answers."""
    heard: list[tuple[str, str]] = field(default_factory=list)
    """(body, event_id), in the order of the syncs."""
    since: str = ""
    """Where the listener begins."""
    over: bool = False
    """Nobody says anything new."""
    quiet: bool = False
    """And everything that was said is answered."""

    async def ask(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """One request, repeated until the server answers it."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, asyncio.TimeoutError):
                async with self.http.request(method, self.base + path, headers=headers, **kwargs) as response:
                    answer: dict[str, Any] = await response.json()
                    if response.status == 200:
                        return answer
                    assert response.status == 503, (response.status, answer)  # the database is starting again
            await asyncio.sleep(0.05)

    async def register(self, name: str) -> str:
        body = {"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}}
        return str((await self.ask("POST", "/register", json=body))["access_token"])

    async def sender(self, number: int) -> None:
        count = 0
        while not self.over:
            body = f"{number}.{count}"
            path = f"/rooms/{self.room_id}/send/m.room.message/t{count}"
            content = {"msgtype": "m.text", "body": body}
            answer = await self.ask("PUT", path, self.tokens[number], json=content)
            self.acknowledged[number].append((body, answer["event_id"]))
            count += 1

    async def listener(self, token: str) -> None:
        limit = '{"room":{"timeline":{"limit":100}}}'
        since = self.since
        while True:
            last = self.quiet
            params = {"since": since, "timeout": "0" if last else "1000", "filter": limit}
            answer = await self.ask("GET", "/sync", token, params=params)
            section = answer.get("rooms", {}).get("join", {}).get(self.room_id)
            if section:
                timeline = section["timeline"]
                if timeline["limited"]:
                    self.heard += await self.page(token, timeline["prev_batch"], since)
                self.heard += _messages(timeline["events"])
            since = answer["next_batch"]
            if last and not section:
                return

    async def page(self, token: str, start: str, stop: str | None = None) -> list[tuple[str, str]]:
        """Messages from a token back to another, oldest first."""
        found: list[tuple[str, str]] = []
        position: str | None = start
        while position:
            params = {"dir": "b", "from": position, "limit": "500", **({"to": stop} if stop else {})}
            answer = await self.ask("GET", f"/rooms/{self.room_id}/messages", token, params=params)
            found += _messages(answer["chunk"])
            position = answer.get("end")
        return found[::-1]


def _messages(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["content"]["body"], e["event_id"]) for e in events if e["type"] == "m.room.message"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", KILLS)
async def test_what_was_acknowledged_survives_kills_in_order_and_once(tmp_path: Path, kills: int) -> None:
    """API-09"""
    chance = random.Random(1)  # reproducible
    server = HomeserverProcess(tmp_path / "data")
    with contextlib.closing(server):
        await asyncio.to_thread(server.start)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            world = World(http, server.base_url + "/_matrix/client/v3")
            await _prepare(world)
            async with asyncio.TaskGroup() as tasks:
                senders = [tasks.create_task(world.sender(number)) for number in range(SENDERS)]
                tasks.create_task(world.listener(world.tokens[-1]))
                for kill in range(kills):
                    await asyncio.sleep(chance.uniform(0.02, 0.4))
                    killed = server.kill9_with_database if kill % 3 == 0 else server.kill9
                    await asyncio.to_thread(killed)
                    await asyncio.to_thread(server.start)
                world.over = True
                await asyncio.wait(senders)
                world.quiet = True
            await _check(world)


async def _prepare(world: World) -> None:
    for number in range(SENDERS + 1):
        world.tokens.append(await world.register(f"user{number}"))
        world.acknowledged.append([])
    room = {"preset": "public_chat"}
    world.room_id = (await world.ask("POST", "/createRoom", world.tokens[0], json=room))["room_id"]
    for token in world.tokens[1:]:
        await world.ask("POST", f"/join/{world.room_id}", token, json={})
    world.since = (await world.ask("GET", "/sync", world.tokens[-1]))["next_batch"]


async def _check(world: World) -> None:
    newest = (await world.ask("GET", "/sync", world.tokens[0]))["next_batch"]
    persisted = await world.page(world.tokens[0], newest)
    assert max(Counter(body for body, _ in persisted).values()) == 1, "a message stands there twice"
    places = {event_id: place for place, (_, event_id) in enumerate(persisted)}
    for sent in world.acknowledged[:SENDERS]:
        assert len(sent) > 3, "there was no load"
        assert [event_id for _, event_id in sent if event_id not in places] == [], "acknowledged, and lost"
        order = [places[event_id] for _, event_id in sent]
        assert order == sorted(order)
    assert world.heard == persisted, "a client that resumes with its token hears everything, once, in order"
