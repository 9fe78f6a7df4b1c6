"""A gateway that fails half its requests, a server that is killed: in the end each phone shows what is unread (PUSH-14)."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.reliability.test_appservices import say
from tests.support.postgres import Postgres
from tests.support.process import ConfiguredProcess
from tests.support.push_gateway import FakeGateway
from tests.support.server import of_process
from tests.support.unread import RECEIPT
from tests.support.user import User

pytestmark = [pytest.mark.reliability, pytest.mark.slow, pytest.mark.timeout(300)]

PHONES = 10
EVENTS = 60
KILLS = 3


async def insist(user: User, room: str, event_id: str) -> None:
    """Reads up to an event, again as long as nobody answers."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            await user.post(RECEIPT, room, "m.read", event_id)
            return
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
async def test_every_badge_is_right_in_the_end(
    tmp_path: Path, postgres: Postgres, migrated_template: str, processes: int
) -> None:
    """kill -9 between messages and between receipts, one process or two; every event that is unread was told, too."""
    dsn = postgres.create(f"push_{processes}", template=migrated_template)
    asked: Counter[str] = Counter()

    def half(notification: Any) -> int:
        """Of each device every other request."""
        key = notification["devices"][0]["pushkey"]
        asked[key] += 1
        return 500 if asked[key] % 2 else 200

    sections = {
        "rate_limits": {"enabled": False},
        "outbound": {"allow_private": {"push": ["127.0.0.1/32"]}},
    }
    async with FakeGateway(answer=half) as gateway:
        with ConfiguredProcess(tmp_path / "data", dsn, processes=processes, **sections) as process:
            process.start()
            server = of_process(process)
            alice = await server.register("alice")
            room = await alice.create_room(preset="public_chat")
            users = [await server.register(f"user{number}") for number in range(PHONES)]
            for user in users:
                await user.join(room)
                await user.post("/pushers/set", json=gateway.pusher(user.user_id))
            sent = []
            for number in range(EVENTS):
                sent.append(await say(alice, room, number))
                if number % (EVENTS // KILLS) == EVENTS // KILLS - 1:
                    process.kill9()
                    process.start()
            # The last ones read everything, and the server dies of it.
            for user in users[:3]:
                await insist(user, room, sent[-1])
            await insist(users[3], room, sent[-11])
            process.kill9()
            process.start()
            wanted = dict.fromkeys([user.user_id for user in users], EVENTS)
            wanted |= dict.fromkeys([user.user_id for user in users[:3]], 0)
            wanted[users[3].user_id] = 10
            await gateway.hears(lambda g: {key: g.badge(key) for key in wanted} == wanted, within=120)
            for user in users[4:]:
                await gateway.hears(lambda g, key=user.user_id: sent[-1] in g.events(key), within=60)
            await asyncio.sleep(3.0)
            assert {key: gateway.badge(key) for key in wanted} == wanted
            await server.close()
