"""A sample server, and ways to ask it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.integration.web.sample import Running, running


@pytest.fixture
async def web() -> AsyncIterator[Running]:
    async with running() as server:
        yield server


class Client:
    """Asks with aiohttp, whose URLs are sent as given."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session, self.base = session, base

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """(status, parsed JSON)."""
        response = await self.full(method, path, **options)
        return response.status, json.loads(response.body) if response.body else None

    async def full(self, method: str, path: str, *, token: str | None = None, **options: Any) -> "Answer":
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = aiohttp.client.URL(self.base + path, encoded=True)
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **options
        ) as got:
            return Answer(got.status, await got.read(), {k.lower(): v for k, v in got.headers.items()})


class Answer:
    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
async def ask(web: Running) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(skip_auto_headers=("Content-Type",), auto_decompress=False) as session:
        yield Client(session, web.url)
