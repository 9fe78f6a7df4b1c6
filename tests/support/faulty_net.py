"""A net between homeservers that loses, delays and reorders their requests, as a generator of random numbers says.

    net = FaultyNet(federation.certificate, random.Random(seed))
    await net.stand_before(name, port, target)     # others connect to `port`, the server listens on `target`
    net.faults = Faults(drop=0.2, lose_answer=0.1, late=0.1, delay=1.0)
    net.cut(here, there)                           # neither reaches the other, a third server reaches both
    await net.close()

It ends TLS on both sides: what happens to a request is decided for the request, not for its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yarl
from aiohttp import web

_ORIGIN = re.compile(r'origin="?([^",]+)', re.IGNORECASE)
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length"}
_PATIENCE = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True)
class Faults:
    """How likely each is, from 0 to 1; `delay`: no request and no answer is held longer, in seconds."""

    drop: float = 0
    """It does not arrive."""
    lose_answer: float = 0
    """It arrives, and who asked never hears of it."""
    late: float = 0
    """It arrives some seconds after who asked has given up: behind what was sent later."""
    delay: float = 0


class Lost(Exception):
    """Nothing will be answered."""


class FaultyNet:
    """`told` counts what was done to requests; `answered_at`: when the server has answered a path, by `time.monotonic`."""

    def __init__(self, certificate: Path, chance: random.Random) -> None:
        self.faults = Faults()
        self.told: Counter[str] = Counter()
        self.answered_at: dict[str, float] = {}
        self._chance = chance
        self._apart: set[frozenset[str]] = set()
        self._server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._client_tls = ssl.create_default_context(cafile=str(certificate))
        self._runners: list[web.ServerRunner] = []
        self._late: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def stand_before(self, name: str, port: int, target: int) -> None:
        """Requests to the server `name` come to `port`; it listens on `target`."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await self._pass(request, name, target)
            except (Lost, aiohttp.ClientError, TimeoutError):
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=502)

        runner = web.ServerRunner(web.Server(serve))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=self._server_tls).start()
        self._runners.append(runner)

    def cut(self, here: str, there: str) -> None:
        """No request passes between these two any more."""
        self._apart.add(frozenset((here, there)))

    def mend(self) -> None:
        """Everybody reaches everybody, at once."""
        self._apart.clear()
        self.faults = Faults()

    async def close(self) -> None:
        """Nobody reaches anybody."""
        for task in self._late:
            task.cancel()
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _pass(self, request: web.BaseRequest, name: str, target: int) -> web.StreamResponse:
        body = await request.content.read()
        found = _ORIGIN.search(request.headers.get("Authorization", ""))
        faults, chance = self.faults, self._chance
        if found and frozenset((found[1], name)) in self._apart:
            self._lose("cut")
        if chance.random() < faults.drop:
            self._lose("dropped")
        if chance.random() < faults.late:
            self._send_late(request, body, target, 1 + 4 * chance.random())
            self._lose("late")
        await asyncio.sleep(faults.delay * chance.random())
        answer = await self._forward(request, body, target)
        self.answered_at[request.path] = time.monotonic()
        await asyncio.sleep(faults.delay * chance.random())
        if chance.random() < faults.lose_answer:
            self._lose("unanswered")
        self.told["passed"] += 1
        return answer

    def _lose(self, how: str) -> None:
        self.told[how] += 1
        raise Lost

    def _send_late(self, request: web.BaseRequest, body: bytes, target: int, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self._forward(request, body, target)

        task = asyncio.get_running_loop().create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _forward(self, request: web.BaseRequest, body: bytes, target: int) -> web.Response:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._client_tls, limit=0),
                timeout=_PATIENCE,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        # as it travelled: signatures cover the path as it is written
        url = yarl.URL(f"https://localhost:{target}{request.raw_path}", encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method,
            url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            skip_auto_headers=("Accept-Encoding",),  # Synapse asks for nothing packed, and unpacks nothing
        ) as answer:
            content = await answer.read()
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
        return web.Response(status=answer.status, body=content, headers=kept)


@contextlib.asynccontextmanager
async def faulty_net(certificate: Path, chance: random.Random) -> AsyncIterator[FaultyNet]:
    """One, until the block ends."""
    net = FaultyNet(certificate, chance)
    try:
        yield net
    finally:
        await net.close()
