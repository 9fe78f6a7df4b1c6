"""Redacted originals are gone after their time, also where every process was killed in between, and with two processes."""

import asyncio
from pathlib import Path

import pytest

from homeserver.storage.database import Database
from tests.support.process import ConfiguredProcess
from tests.support.server import Server, of_process
from tests.support.waiting import until

KEEP = 6


@pytest.mark.reliability
@pytest.mark.parametrize("processes", [1, 2])
async def test_they_are_gone_after_a_kill(database: str, tmp_path: Path, processes: int) -> None:
    async with Database(database, size=1) as db:

        async def kept() -> int:
            async with db.read() as tx:
                return int(await tx.value("SELECT count(*) FROM redacted_originals"))

        async def none_kept() -> bool:
            return await kept() == 0

        kept_for = {"redacted_originals": f"{KEEP}s"}
        with ConfiguredProcess(tmp_path / "data", database, processes=processes, rooms=kept_for) as process:
            await asyncio.to_thread(process.start)
            server = of_process(process)
            alice = await server.register("alice")
            room = await alice.create_room()
            for number in range(3):
                await alice.redact(room, await alice.send(room, f"{number}"))
            await asyncio.to_thread(process.kill9)
            await server.close()
            kept_then = await kept()
            await asyncio.sleep(KEEP)
            assert await kept() == kept_then > 0, "nobody destroys them while nobody runs"
            await asyncio.to_thread(process.start)
            await until(none_kept, within=60)
            await _works(Server(process.base_url), alice.token, room)


async def _works(server: Server, token: str, room: str) -> None:
    """Redactions go on being kept apart, and destroyed: nothing of it depends on who was killed."""
    try:
        page = await server.client.get("/rooms/{}/messages", room, params={"dir": "b"}, token=token)
        redacted = [each for each in page["chunk"] if each["type"] == "m.room.message"]
        assert [each["content"] for each in redacted] == [{}, {}, {}]
    finally:
        await server.close()
