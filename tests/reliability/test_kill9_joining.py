"""A server that is killed while one of its users joins a large room: they have joined, or they have not; never half."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom
from tests.support.process import ConfiguredProcess

KILLS = 6
MEMBERS = 1_500


def no_database() -> str:
    raise AssertionError("no Atrium of this process is started")


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Federation]:
    async with AsyncExitStack() as stack:
        yield Federation(tmp_path, no_database, stack)


async def request(base: str, method: str, path: str, token: str = "", **body: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{base}/_matrix/client/v3{path}", headers=headers, json=body or {}) as response,
    ):
        return response.status, await response.json()


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.holds_loop  # the scripted server makes thousands of events here
async def test_a_killed_join_is_whole_or_nothing(scripted: Federation, tmp_path: Path, database: str) -> None:
    outbound = {
        "extra_ca_files": [str(scripted.certificate)],
        "allow_private": {"federation": ["127.0.0.0/8", "::1/128"]},
    }
    remote = await scripted.remote()
    chance = random.Random(11)
    with ConfiguredProcess(
        tmp_path / "data", database, outbound=outbound, rate_limits={"enabled": False}
    ) as server:
        await asyncio.to_thread(server.start)
        base = server.base_url
        auth = {"type": "m.login.dummy"}
        _, anna = await request(
            base, "POST", "/register", username="anna", password="correct horse battery", auth=auth
        )
        token, whole = anna["access_token"], 0
        for _ in range(KILLS):
            room = RemoteRoom(remote, "11")
            room.members(MEMBERS)
            room.freeze()
            room.serves()
            join = asyncio.create_task(request(base, "POST", f"/join/{room.name}?via={remote.name}", token))
            while not room.answered_at and not join.done():  # noqa: ASYNC110  # set by the scripted server
                await asyncio.sleep(0.01)
            await asyncio.wait([join], timeout=chance.uniform(0.05, 2.5))
            await asyncio.to_thread(server.kill9)
            answered = None
            with contextlib.suppress(aiohttp.ClientError, OSError):
                answered, _ = await join
            await asyncio.to_thread(server.start)
            _, told = await request(base, "GET", "/joined_rooms", token)
            joined = room.name in told["joined_rooms"]
            assert joined or answered != 200, "an acknowledged join is lost"
            status, members = await request(base, "GET", f"/rooms/{room.name}/joined_members", token)
            if joined:
                whole += 1
            else:
                assert status == 403
                status, told = await request(base, "POST", f"/join/{room.name}?via={remote.name}", token)
                assert status == 200, (told, await asyncio.to_thread(server.last_output))
                _, members = await request(base, "GET", f"/rooms/{room.name}/joined_members", token)
            assert len(members["joined"]) == MEMBERS + 2
        print(f"of {KILLS} joins that were cut off {whole} were whole")
