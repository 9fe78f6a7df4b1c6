"""A server ends or hangs while many use it: everybody comes back at once, and nobody loses what was acknowledged."""

import asyncio
import os
import signal
from collections import Counter
from itertools import count
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from benchmarks.people import Person
from homeserver.runtime.turns import pieces
from tests.reliability.conftest import FEW, MANY, started
from tests.support.bystander import judge
from tests.support.load import Load
from tests.support.process import HomeserverProcess
from tests.support.waiting import until

pytestmark = pytest.mark.reliability

SIZES = [
    pytest.param(2, 2 * FEW, id="few-2"),
    pytest.param(1, MANY, id="many-1", marks=pytest.mark.load),
    pytest.param(2, MANY, id="many-2", marks=pytest.mark.load),
]
NEWS = "said while you were away"


async def a_company(load: Load) -> tuple[list[Person], list[str]]:
    """Two hundred people, each in the room of all and in three of ten."""
    people = await load.populate(200)
    rooms = [await load.room_of(people)]
    for some in pieces(people, 10):
        rooms += [await load.room_of(some) for _ in range(3)]
    return people, rooms


@pytest.mark.parametrize(("processes", "share"), SIZES)
async def test_everybody_reconnects_after_a_restart(tmp_path: Path, processes: int, share: float) -> None:
    """Half of them go on with their token, half begin anew, and some speak at once. SYNC-01"""
    process = HomeserverProcess(tmp_path / "data", processes=processes)
    async with started(process, share) as load:
        people, rooms = await a_company(load)
        since = (await people[0].sync()).json()["next_batch"]
        await people[0].say(rooms[0], NEWS)
        load.hang_up()
        await asyncio.to_thread(process.restart)
        alone = await load.bystander.alone()
        half = len(people) // 2
        # So that what is said meanwhile does not push the news out of the timeline.
        whole = quote('{"room":{"timeline":{"limit":100}}}')
        path = f"/sync?timeout=30000&since={quote(since)}&filter={whole}"
        resumed = [p.request("GET", path) for p in people[:half]]
        begun = [p.request("GET", "/sync?timeout=30000") for p in people[half:]]
        message = {"msgtype": "m.text", "body": "back"}
        path = f"/rooms/{quote(rooms[0])}/send/m.room.message/back"
        spoken = [p.request("PUT", path, message) for p in people[::4]]
        async with load.memory() as memory, load.bystander.watching() as during:
            storm = (load.at_once(each, read=True) for each in (resumed, begun, spoken))
            answers = await asyncio.gather(*storm)
        assert [each.statuses for each in answers] == [{200: len(each)} for each in (resumed, begun, spoken)]
        assert all(NEWS.encode() in body for body in answers[0].bodies)
        whole = [msgspec.json.decode(body)["rooms"]["join"] for body in answers[1].bodies]
        assert all(len(each) == 4 for each in whole)
        assert memory.grown < 150 * processes
        judge(alone, during, times=20, worst=0.6)


class Writer:
    """Writes on and on, and repeats what is not answered until it is."""

    def __init__(self, person: Person, room: str) -> None:
        self._person = person
        self._path = f"/rooms/{quote(room)}/send/m.room.message/w"
        self.written: list[str] = []
        self.refused: Counter[int | str] = Counter()

    async def write(self, over: asyncio.Event) -> None:
        for number in count():
            if over.is_set():
                return
            await self._one(number)
            await asyncio.sleep(0.05)

    async def _one(self, number: int) -> None:
        message = {"msgtype": "m.text", "body": str(number)}
        request = self._person.request("PUT", f"{self._path}{number}", message)
        while True:
            try:
                async with asyncio.timeout(5):
                    answer = await self._person.connection.send(request)
            except (TimeoutError, OSError) as error:
                self.refused[type(error).__name__] += 1
                continue
            if answer.status == 200:
                self.written.append(answer.json()["event_id"])
                return
            self.refused[answer.status] += 1
            await asyncio.sleep(0.2)


@pytest.mark.load
async def test_a_worker_hangs_while_people_write(tmp_path: Path) -> None:
    """Whoever is connected to it gets no answer until it is replaced; the others are never refused. API-09"""
    process = HomeserverProcess(tmp_path / "data", processes=2)
    async with started(process, 0.015) as load:
        people = await load.populate(2000)
        room = await load.room_of(people)
        writers, over = [Writer(person, room) for person in people], asyncio.Event()
        tasks = [asyncio.create_task(writer.write(over)) for writer in writers]
        await asyncio.sleep(2)
        hanging = process.worker_pids()[0]
        os.kill(hanging, signal.SIGSTOP)

        async def replaced() -> bool:
            pids = await asyncio.to_thread(process.worker_pids)
            return hanging not in pids and len(pids) == 2

        await until(replaced, within=90, every=0.2)
        before = [len(writer.written) for writer in writers]

        async def all_go_on() -> bool:
            return all(len(writer.written) >= had + 5 for writer, had in zip(writers, before, strict=True))

        await until(all_go_on, within=60, every=0.1)
        over.set()
        await asyncio.gather(*tasks)
        refused = sum((writer.refused for writer in writers), Counter())
        assert refused.keys() <= {"TimeoutError", "ConnectionResetError"}
        path = f"/rooms/{quote(room)}/messages?dir=b&limit=1000"
        found: list[str] = []
        while path:
            page = (await load.gently([people[0].request("GET", path)]))[0].json()
            found += [event["event_id"] for event in page["chunk"] if event["type"] == "m.room.message"]
            path = (
                f"/rooms/{quote(room)}/messages?dir=b&limit=1000&from={page['end']}" if "end" in page else ""
            )
        order = {event_id: place for place, event_id in enumerate(reversed(found))}
        assert len(order) == len(found) == sum(len(writer.written) for writer in writers)
        for writer in writers:
            places = [order[event_id] for event_id in writer.written]
            assert places == sorted(places)
