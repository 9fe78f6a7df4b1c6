"""A reverse proxy that holds every answer against the contract: for programs that are not ours to instrument.

    with CheckingProxy(server.base_url) as proxy:
        run_some_client(proxy.url)      # matrix-js-sdk, matrix-nio, a browser

It runs in a thread of its own, so that tests that block can use it too. At the end of the block a ContractError tells
what the server answered wrongly; `proxy.checked` says how many answers were looked at.
"""

import asyncio
import threading
from types import TracebackType
from typing import Self

import aiohttp
import yarl
from aiohttp import web

from tests.support.client import ContractError, tell
from tests.support.spec import Exchange, problems_of

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length"}
_MAX_BODY = 200 << 20
_MAX_TOLD = 20
_TURNS = 10
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)


class CheckingProxy:
    """Forwards to `target` (a base URL) and checks what comes back; `url` is where clients connect."""

    def __init__(self, target: str) -> None:
        self._target = target.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="checking proxy", daemon=True)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""
        self.checked = 0
        self.problems: list[str] = []

    def start(self) -> Self:
        """Listens on a free loopback port."""
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        return self

    def stop(self) -> None:
        """Stops listening; says nothing about what was found."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def verify(self) -> None:
        """Raises ContractError with what was found so far."""
        if self.problems:
            more = len(self.problems) - _MAX_TOLD
            told = [*self.problems[:_MAX_TOLD], *([f"... and {more} more"] if more > 0 else [])]
            raise ContractError("\n".join(told))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self.verify()

    async def _listen(self) -> str:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=_PATIENCE, cookie_jar=aiohttp.DummyCookieJar()
        )
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        for _ in range(
            _TURNS
        ):  # a transport that is closed is so some turns later, and this loop has none after these
            await asyncio.sleep(0)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        # as it travelled: a proxy that decodes "%2F" asks for something else (API-17)
        url = yarl.URL(self._target + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        body = await request.read()
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            return web.Response(status=502, text="the server behind the proxy does not answer")
        self._check(request, url, body, answer, content)
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
        return web.Response(status=answer.status, body=content, headers=kept)

    def _check(
        self, request: web.Request, url: yarl.URL, body: bytes, answer: aiohttp.ClientResponse, content: bytes
    ) -> None:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        seen = Exchange(request.method, url.raw_path, answer.status, content, dict(url.query), headers)
        self.checked += 1
        wrong = [f"a {answer.status}"] if answer.status == 500 else []
        if found := wrong + problems_of(seen):
            self.problems.append(tell(seen, url, body, found))
