"""One of two servers is killed while its users send each other messages to devices: all arrive, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any, NamedTuple

import aiohttp
import pytest

from homeserver.config import Config
from tests.reliability.test_inbound_kill9 import killable
from tests.support.federation import Federation
from tests.support.process import ConfiguredProcess
from tests.support.server import running
from tests.support.user import User

MESSAGES = 1_000
KILLS = 4


class Session(NamedTuple):
    """Somebody's client, which goes on over restarts."""

    url: str
    user: User
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Until it is answered well."""
        headers = {"Authorization": f"Bearer {self.user.token}"}
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with (
                        asyncio.timeout(10),
                        self.http.request(
                            method, f"{self.url}/_matrix/client/v3{path}", headers=headers, **options
                        ) as response,
                    ):
                        if response.status == 200:
                            return await response.json()
                await asyncio.sleep(0.05)


async def send_all(alice: Session, bob: User) -> None:
    for number in range(MESSAGES):
        content = {"messages": {bob.user_id: {bob.device_id: {"n": number}}}}
        await alice.ask("PUT", f"/sendToDevice/org.example.note/t{number}", json=content)


async def hear_all(bob: Session) -> list[int]:
    found: list[int] = []
    since: dict[str, str] = {}
    while len(found) < MESSAGES:
        answer = await bob.ask("GET", "/sync", params={"timeout": "1000", **since})
        since = {"since": answer["next_batch"]}
        found += [event["content"]["n"] for event in answer.get("to_device", {}).get("events", [])]
    return found


def killed(config: Config) -> ConfiguredProcess:
    """A server that can be killed, and may speak with the other one here."""
    server = killable(config, 1)
    raw = json.loads(server.config.read_text())
    raw["outbound"]["allow_private"] = {"federation": ["127.0.0.0/8", "::1/128"]}
    server.config.write_text(json.dumps(raw))
    return server


@pytest.mark.reliability
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_messages_to_devices_survive_kills(federation: Federation, who: str) -> None:
    """FED-34, TD-02"""
    chance = random.Random(who)  # reproducible
    configs = [federation.config(rate_limits={"enabled": False}) for _ in range(2)]
    people = []
    for config, name in zip(configs, ("alice", "bob"), strict=True):
        async with running(config) as server:
            people.append(await server.register(name))
    alice, bob = people
    dying = 0 if who == "sender" else 1
    process = killed(configs[dying])
    with contextlib.closing(process):
        await asyncio.to_thread(process.start)
        async with running(configs[1 - dying]) as other, aiohttp.ClientSession() as http:
            mortal = f"http://127.0.0.1:{process.port}"
            urls = [other.client.base_url, other.client.base_url]
            urls[dying] = mortal
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(send_all(Session(urls[0], alice, http), bob))
                hearing = tasks.create_task(hear_all(Session(urls[1], bob, http)))
                for _ in range(KILLS):
                    await asyncio.sleep(chance.uniform(0.5, 1.5))
                    process.kill9()
                    await asyncio.to_thread(process.restart)
            assert sending.done()
            assert hearing.result() == list(range(MESSAGES))
