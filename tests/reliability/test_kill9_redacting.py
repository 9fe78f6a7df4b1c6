"""A ban that redacts what its target has said (MSC4293), while the server is killed: all of it is redacted in the end, and
nothing else.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.process import HomeserverProcess
from tests.support.server import of_process
from tests.support.user import User
from tests.support.waiting import until

SAID = 200
"""By the target in each room: some pages of the job."""
DELAYS = (0.0, 0.03, 0.1)
"""Seconds between the answer to the ban and the kill: before the job has begun, and in the middle of it."""


async def contents(user: User, room: str) -> dict[str, list[str]]:
    """Sender -> what they are still read to have said."""
    found: dict[str, list[str]] = {}
    page = await user.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 1000})
    for event in page["chunk"]:
        if event["type"] == "m.room.message":
            found.setdefault(event["sender"], []).append(event["content"].get("body", ""))
    return found


@pytest.mark.slow  # the lease of a job whose process was killed lasts half a minute
@pytest.mark.reliability
async def test_what_a_ban_redacts_is_redacted_though_the_server_is_killed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        process = stack.enter_context(HomeserverProcess(tmp_path, processes=2).start())
        server = of_process(process)
        stack.push_async_callback(server.close)
        alice, spammer = await server.register("alice"), await server.register("spammer")
        rooms = [await alice.create_room(preset="public_chat") for _ in DELAYS]
        for room in rooms:
            await spammer.join(room)
            await alice.send(room, "kept")
            await asyncio.gather(*(spammer.send(room, f"spam {number}") for number in range(SAID)))
        body = {"user_id": spammer.user_id, "org.matrix.msc4293.redact_events": True}
        for room, seconds in zip(rooms, DELAYS, strict=True):
            await alice.post("/rooms/{}/ban", room, json=body)
            await asyncio.sleep(seconds)
            process.kill9()
            await alice.client.close()  # its connections are cut
            process.restart()

        async def redacted() -> bool:
            said = [await contents(alice, room) for room in rooms]
            return all(not any(each.get(spammer.user_id, [])) for each in said)

        # A job whose process was killed is begun anew when its lease is over.
        await until(redacted, within=90, every=0.5)
        for room in rooms:
            said = await contents(alice, room)
            assert said[alice.user_id] == ["kept"]
            assert said[spammer.user_id] == [""] * SAID
