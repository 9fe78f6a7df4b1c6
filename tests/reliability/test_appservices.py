"""An application service that is away while much happens, and a server that is killed meanwhile: nothing is lost. AS-06."""

import asyncio
import contextlib
import random
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.appservice import FakeService
from tests.support.postgres import Postgres
from tests.support.process import ConfiguredProcess
from tests.support.server import of_process
from tests.support.user import User
from tests.support.waiting import until

pytestmark = [pytest.mark.reliability, pytest.mark.slow, pytest.mark.timeout(600)]

EVENTS = [3_000, pytest.param(10_000, marks=pytest.mark.load)]
"""A transaction holds a hundred."""
TALKERS = 8
KILLS = 3


async def say(user: User, room: str, number: int) -> str:
    """Says it, again as long as nobody answers. Returns the event ID."""
    body = {"msgtype": "m.text", "body": str(number)}
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, AssertionError):
            if event_id := await user.send_event(room, "m.room.message", body, txn=f"n{number}"):
                return event_id
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("count", EVENTS)
@pytest.mark.parametrize("processes", [1, 2])
async def test_nothing_is_lost_while_a_service_is_away(
    tmp_path: Path, postgres: Postgres, migrated_template: str, processes: int, count: int
) -> None:
    """Thousands of events, the server killed in between, the service away: all in order, once, within a second of its return."""
    name = f"away_{processes}_{count}"
    dsn = postgres.create(name, template=migrated_template)
    service = FakeService()
    sections = {
        "appservices": {"registration_files": [str(service.file(tmp_path))]},
        "rate_limits": {"enabled": False},
    }
    with ConfiguredProcess(tmp_path / "data", dsn, processes=processes, **sections) as process:
        process.start()
        server = of_process(process)
        await service.start()
        alice = await server.register("alice")
        room = await alice.create_room(invite=[service.sender_id])
        await server.client.post("/join/{}", room, token=service.as_token)
        await service.hears_event(await alice.send(room, "before"))
        await service.stop()
        begun = len(service.transactions)
        heads = [0]

        async def talk(each: int) -> list[str]:
            said = []
            for number in range(each, count, TALKERS):
                said.append(await say(alice, room, number))
                heads[0] += 1
            return said

        async def reached(number: int) -> bool:
            return heads[0] >= number

        async def kill() -> None:
            for number in range(KILLS):
                await until(partial(reached, count * (number + 1) // (KILLS + 2)), within=300)
                process.kill9()
                process.start()

        said, _ = await asyncio.gather(asyncio.gather(*map(talk, range(TALKERS))), kill())
        await service.start()
        loop = asyncio.get_running_loop()
        back = loop.time()
        await service.hears(lambda s: len(s.transactions) > begun)
        first = loop.time() - back
        # Once more while it is being told: what was under way comes again under the same id.
        await asyncio.sleep(random.uniform(0.1, 0.5))
        process.kill9()
        process.start()
        wanted = {event_id for each in said for event_id in each}
        await service.hears(lambda s: wanted <= {event["event_id"] for event in s.events}, within=120)
        await service.stop()
        await server.close()
    assert first < 1.0
    heard = [event["event_id"] for event in service.events if event["event_id"] in wanted]
    assert len(heard) == len(set(heard)) == count
    for each in said:
        places = [heard.index(event_id) for event_id in each[:: max(1, len(each) // 50)]]
        assert places == sorted(places)
    ids = [int(txn) for txn, _ in service.transactions]
    assert ids == sorted(set(ids))
    postgres.drop(name)
