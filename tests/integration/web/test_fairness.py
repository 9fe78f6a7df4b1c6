"""One user's hundred requests at once do not make another wait for all of them."""

import asyncio
import time

import aiohttp
import pytest

from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, endpoint
from tests.integration.web.sample import C, running

MANY = 100
SECONDS = 0.005


class Laborious:
    """Notes whose requests are done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun = asyncio.Event()
        self.at_work = self.most_at_work = 0

    @endpoint("labour", "GET", f"{C}/labour/{{kind}}", auth=Auth.GUEST_ALLOWED)
    async def labour(self, requester: Requester, kind: Path[str]) -> None:
        """Takes time: all at once, in pieces with waits between them, or waiting alone."""
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        for _ in range(1 if kind == "computes" else 5):
            until = time.perf_counter() + (SECONDS if kind == "computes" else SECONDS / 5)
            while kind != "waits" and time.perf_counter() < until:
                pass
            if kind != "computes":
                await asyncio.sleep(SECONDS)
        self.at_work -= 1
        self.done.append(requester.user_id)
        if len(self.done) == 3:
            self.begun.set()


@pytest.mark.parametrize("kind", ["computes", "queries", "waits"])
async def test_others_do_not_wait_behind_a_hundred_requests_of_one_user(kind: str) -> None:
    api = Laborious()
    async with (
        running(extra=(api,)) as web,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        async def ask(who: str) -> int:
            headers = {"Authorization": f"Bearer {who}"}
            async with session.get(f"{web.url}{C}/labour/{kind}", headers=headers) as answer:
                return answer.status

        flood = [asyncio.create_task(ask("alice")) for _ in range(MANY)]
        await api.begun.wait()
        before = len(api.done)
        assert await ask("guest") == 200
        assert api.done.index("@guest:localhost") - before <= 30, api.done
        assert set(await asyncio.gather(*flood)) == {200}
        assert api.most_at_work <= 8 + 1
