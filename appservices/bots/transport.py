"""How a bot speaks to its homeserver: HTTP as an application service, patient where the server is away or wants less.

spec: application-service-api/#client-server-api-extensions, client-server-api/#rate-limiting
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from typing_extensions import override
from yarl import URL

from appservices.bots.clock import Clock
from appservices.bots.errors import Refused, Unreachable

PATIENCE: Final = 600.0
"""Seconds for which a request is tried again."""
TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
MAX_ANSWER: Final = 32 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_MAX_WAIT_MS: Final = 300_000


class Transport(Protocol):
    """Makes requests of the client-server API; fulfilled over HTTP, and by the homeserver of the testing kit."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The answer's JSON. `path`: percent-encoded, from `/_matrix` on. Raises `Refused`, `Unreachable`.

        May be made more than once: what must not happen twice has a transaction id in its path.
        """
        ...

    async def close(self) -> None:
        """No more requests."""
        ...


class HttpTransport(Transport):
    """Over HTTP. `base_url`: of the homeserver; `token`: the `as_token`."""

    def __init__(self, base_url: str, token: str, clock: Clock, *, patience: float = PATIENCE) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._clock = clock
        self._patience_ms = int(patience * 1000)
        self._session: aiohttp.ClientSession | None = None

    @override
    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        query = f"?{urlencode(params)}" if params else ""
        url = URL(self._base_url + path + query, encoded=True)
        ends_ms = self._clock.now_ms() + self._patience_ms
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._once(method, url, body)
            except _TryLater as later:
                wait = later.seconds if later.seconds is not None else pause
                if self._clock.now_ms() + int(wait * 1000) > ends_ms:
                    raise Unreachable(f"{method} {path.partition('?')[0]}: {later.reason}") from None
                await self._clock.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self, method: str, url: URL, body: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT)
        data = None if method == "GET" else json.dumps(body or {}).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(method, url, data=data, headers=headers) as response:
                raw = await response.content.read(MAX_ANSWER)
                retry_after = response.headers.get("Retry-After", "")
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _TryLater(type(error).__name__) from None
        answer = _object(raw)
        if status < 300:
            return answer
        if status == 429:
            raise _TryLater("too many requests", _wait(answer, retry_after))
        if status >= 500:
            raise _TryLater(f"it answered {status}")
        raise Refused(status, str(answer.get("errcode", "M_UNKNOWN")), str(answer.get("error", status)))

    @override
    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _TryLater(Exception):
    """`seconds` None: as one sees fit."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


def _wait(answer: Mapping[str, Any], retry_after: str) -> float | None:
    """What a rate limit says. spec: client-server-api/#rate-limiting: the header counts, older servers say it in the body"""
    if retry_after.isdecimal():
        return min(float(retry_after), _MAX_WAIT_MS / 1000)
    ms = answer.get("retry_after_ms")
    return min(max(ms, 0), _MAX_WAIT_MS) / 1000 if isinstance(ms, int) else None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def path(*segments: str) -> str:
    """A path below `/_matrix/client/v3`, each segment encoded whole."""
    return "/_matrix/client/v3/" + "/".join(quote(segment, safe="") for segment in segments)
