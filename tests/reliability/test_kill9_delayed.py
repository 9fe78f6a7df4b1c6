"""Delayed events (MSC4140) over kills: sent once each, those that fell due while nobody served included."""

import asyncio
from pathlib import Path

import pytest

from tests.support.process import HomeserverProcess
from tests.support.server import of_process

EVENTS = 40


@pytest.mark.reliability
async def test_each_is_sent_once_though_the_server_is_killed(tmp_path: Path) -> None:
    with HomeserverProcess(tmp_path, processes=2).start() as process:
        server = of_process(process)
        alice = await server.register("alice")
        room = await alice.create_room()
        for number in range(EVENTS):
            await alice.put(
                "/rooms/{}/send/m.room.message/{}",
                room,
                f"t{number}",
                json={"msgtype": "m.text", "body": str(number)},
                params={"org.matrix.msc4140.delay": 2_000 + 50 * number},
            )
        await asyncio.sleep(1.2)
        for _ in range(2):
            process.kill9()
            process.restart()
            await asyncio.sleep(0.3)
        wanted = sorted(map(str, range(EVENTS)))
        said: list[str] = []
        for _ in range(400):  # what was claimed by a process that died is taken over after half a minute
            page = await alice.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 100})
            said = [e["content"]["body"] for e in page["chunk"] if e["type"] == "m.room.message"]
            if len(said) >= EVENTS:
                break
            await asyncio.sleep(0.5)
        await server.close()
    assert sorted(said) == wanted
