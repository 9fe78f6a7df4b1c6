"""Many ask for the keys of the same people at once, as after a message in a large room: they are read once."""

import asyncio
from typing import Any

import pytest

from homeserver.e2ee.query import KeyQueries
from tests.conftest import StartServer


async def test_keys_that_many_ask_for_together_are_read_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-05"""
    server = await start_server()
    people = [await server.register(f"p{number}") for number in range(12)]
    read: list[int] = []
    of_database, of_request = KeyQueries._read, KeyQueries.query
    arrived, together = 0, asyncio.Event()

    async def queried(self: KeyQueries, *args: Any, **more: Any) -> Any:
        nonlocal arrived
        arrived += 1
        if arrived == len(people):
            together.set()
        return await of_request(self, *args, **more)

    async def counted(self: KeyQueries, names: dict[int, str], **more: bool) -> object:
        read.extend(names)
        await together.wait()
        return await of_database(self, names, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyQueries, "_read", counted)
    monkeypatch.setattr(KeyQueries, "query", queried)
    everybody = {"device_keys": {person.user_id: [] for person in people}}
    replies = await asyncio.gather(*(person.post("/keys/query", json=everybody) for person in people))
    assert all(len(reply["device_keys"]) == len(people) for reply in replies)
    assert len(read) == len(set(read)) == len(people)
