"""The database is away for 1, 5 and 30 seconds while people use a server of one or two processes.

Who reads goes on where one process serves; everybody else is told to come back, at once. When the database is there again,
everything is as before, in the same processes, and nothing that was acknowledged is missing. What runs in the background meanwhile
is in `test_database_away.py`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import psycopg.conninfo
import pytest

from benchmarks.people import Person
from tests.reliability.conftest import started
from tests.support.load import Load
from tests.support.process import ConfiguredProcess
from tests.support.relay import Relay
from tests.support.waiting import until

pytestmark = pytest.mark.reliability

AWAY = [
    pytest.param(2, 1, id="1s-2"),
    pytest.param(1, 5, id="5s-1", marks=pytest.mark.load),
    pytest.param(2, 30, id="30s-2", marks=pytest.mark.load),
]


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    relay = Relay(psycopg.conninfo.conninfo_to_dict(database))
    await relay.open()
    yield relay
    relay.close()


class Reader:
    """Asks for what is in memory, all the time."""

    def __init__(self, person: Person, since: str) -> None:
        self._person = person
        paths = ("/account/whoami", f"/sync?set_presence=offline&since={quote(since)}", "/joined_rooms")
        self._requests = {path.partition("?")[0]: person.request("GET", path) for path in paths}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.slowest = 0.0

    async def read(self) -> None:
        while True:
            for path, request in self._requests.items():
                answer = await self._person.connection.send(request)
                self.statuses[path, answer.status] += 1
                self.slowest = max(self.slowest, answer.seconds)
            await asyncio.sleep(0.1)


async def healthy(load: Load) -> bool:
    answer = await load.people[0].connection.send(load.target.request("GET", "/health"))
    return bool(answer.json()["status"] == "ok")


@pytest.mark.parametrize(("processes", "seconds"), AWAY)
async def test_the_database_is_away_while_people_use_the_server(
    database: str, relay: Relay, tmp_path: Path, processes: int, seconds: int
) -> None:
    dsn = psycopg.conninfo.make_conninfo(database, host="127.0.0.1", port=relay.port)
    limits = {"enabled": False}
    process = ConfiguredProcess(tmp_path / "data", dsn, processes=processes, rate_limits=limits)
    async with started(process, 1) as load:
        people = await load.populate(20)
        await load.room_of(people)
        since = [(await person.sync()).json()["next_batch"] for person in people]
        readers = [Reader(person.another_connection(), at) for person, at in zip(people, since, strict=True)]
        before, pids = await load.bystander.alone(), load.serving()
        reading = [asyncio.create_task(reader.read()) for reader in readers]
        async with load.bystander.watching() as during:
            await asyncio.sleep(0.5)
            relay.close()
            await asyncio.sleep(seconds)
            await relay.open()
            await until(lambda: healthy(load), within=60, every=0.2)
        for task in reading:
            task.cancel()
        after = await load.bystander.alone()
        statuses = sum((reader.statuses for reader in readers), Counter())
        slowest = max(reader.slowest for reader in readers)
        print(f"  before: {before}\n  during: {during}\n  after: {after}\n  {statuses} {slowest}")
        # One of several processes cannot know meanwhile what the others have done (signed somebody out), and says so.
        assert {status for _, status in statuses} <= ({200} if processes == 1 else {200, 503}), statuses
        assert all(": 503 " in reason for reason in during.refused)
        assert after.refused == []
        assert after.needs < 5 * max(before.needs, 0.02)
        assert load.serving() == pids
        assert await load.bystander.misses(before.acknowledged + during.acknowledged) == []
        for reader in readers:
            reader._person.connection.close()
