"""What those who run the server ask: is it well, and what does it count.

Owns `/health` and `/metrics`; what is checked and counted is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from homeserver.web.auth import Auth
from homeserver.web.endpoint import endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response

Check = Callable[[], Awaitable[None]]
"""Returns if this part is well, raises if not."""


class Impaired(Exception):
    """A part is not as it should be, but requests are worth sending here. Its text is told to whoever asks."""


class Unwell(Exception):
    """A part cannot do its work. Its text is told to whoever asks; of other exceptions only the kind is."""


class Health(msgspec.Struct):
    """`status` is `ok`, `impaired` (it answers, but somebody should look), `unwell` or `stopping`; `checks` says it for
    each part.
    """

    status: str
    checks: dict[str, str]


class HealthApi:
    """Answers load balancers and supervisors: 200 while requests are worth sending here, else 503."""

    def __init__(self, checks: Mapping[str, Check], *, timeouts: float = 5.0) -> None:
        """`timeouts`: seconds a check may take."""
        self._checks = dict(checks)
        self._timeouts = timeouts
        self.draining = False
        """The process is about to stop: load balancers shall send nothing more here, though it still serves."""

    @endpoint("getHealth", "GET", "/health", auth=Auth.NONE, limit=None)
    async def health(self, info: RequestInfo) -> Response:
        """Whether this process can serve: it is not shutting down, and every part it needs answers."""
        results = await asyncio.gather(*(self._run(check) for check in self._checks.values()))
        checks = {name: words for name, (_, words) in zip(self._checks, results, strict=True)}
        if self.draining or info.closing.is_set():
            return Response(503, Health("stopping", checks))
        for status, code in (("unwell", 503), ("impaired", 200)):
            if any(found == status for found, _ in results):
                return Response(code, Health(status, checks))
        return Response(200, Health("ok", checks))

    async def _run(self, check: Check) -> tuple[str, str]:
        """What it means for the whole, and the words."""
        try:
            async with asyncio.timeout(self._timeouts):
                await check()
        except TimeoutError:
            return "unwell", "no answer in time"
        except Impaired as error:
            return "impaired", str(error)
        except Unwell as error:
            return "unwell", str(error)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a part, that is the answer
            return "unwell", type(error).__name__
        return "ok", "ok"


class MetricsApi:
    """Answers Prometheus."""

    def __init__(self, gather: Callable[[], Awaitable[Collector]]) -> None:
        """`gather`: all figures of now, which another thread may read."""
        self._gather = gather

    @endpoint("getMetrics", "GET", "/metrics", auth=Auth.NONE, limit=None)
    async def metrics(self) -> Response:
        """All figures in Prometheus' text format."""
        # Of some processes there are tens of thousands of samples, which take tenths of a second to write.
        text = await asyncio.to_thread(generate_latest, await self._gather())
        return Response(200, text, content_type=CONTENT_TYPE_PLAIN_0_0_4)
