"""Asking an application service over HTTP, on the paths of the specification or, where it does not know these, on those of
before.

spec: application-service-api/#authorisation, #legacy-routes (CHECKLIST AS-05, AS-07)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from appservices.types import Service
from homeserver.matrix import json
from homeserver.runtime.clock import Clock
from homeserver.web.limits import MIB
from homeserver.web.outbound import HttpRequest, Outbound, OutboundError, Purpose

PREFIX: Final = "/_matrix/app/v1"
LEGACY_SECONDS: Final = 3_600.0
"""For so long a service that knows the old paths alone is asked there first."""
PROBE_TIMEOUT: Final = 3.0
_GATEWAY = frozenset({502, 503, 504})
"""What a proxy says for a service that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a service. `path` begins behind the prefix: `/transactions/35`."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = 10.0
    """Seconds."""
    max_bytes: int = MIB
    legacy: str | None = None
    """What stands before `path` on the old path; None: there is none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service said."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def unknown_path(self) -> bool:
        """Whether the service does not know the path, rather than what is asked for."""
        if self.status not in {404, 405}:
            return False
        said = self.json()
        errcode = said.get("errcode") if isinstance(said, dict) else None
        return errcode is None or errcode == "M_UNRECOGNIZED"


class TimedOut(OutboundError):
    """The service did not answer in time."""


class AppserviceClient:
    """Asks services. Remembers which of them know the old paths alone."""

    def __init__(self, outbound: Outbound, clock: Clock, *, legacy_token: bool) -> None:
        """`legacy_token`: send the `hs_token` in the query too, for services of before 2022."""
        self._outbound = outbound
        self._clock = clock
        self._legacy_token = legacy_token
        self._legacy_until: dict[str, float] = {}

    async def call(self, service: Service, call: Call) -> Reply:
        """Ask, on the old path too if need be. Raises `OutboundError`; `TimedOut` if it takes too long."""
        old = call.legacy is not None and self._clock.monotonic() < self._legacy_until.get(service.id, 0.0)
        if old:
            reply = await self._ask(service, call, old=True)
            if not reply.unknown_path:
                return reply
            del self._legacy_until[service.id]
        reply = await self._ask(service, call, old=False)
        if old or call.legacy is None or not reply.unknown_path:
            return reply
        second = await self._ask(service, call, old=True)
        if second.ok:
            self._legacy_until[service.id] = self._clock.monotonic() + LEGACY_SECONDS
        return second if not second.unknown_path else reply

    async def answers(self, service: Service) -> bool:
        """Whether something answers there: a ping, whatever the service makes of it."""
        call = Call(method="POST", path="/ping", body=b"{}", timeout=PROBE_TIMEOUT)
        try:
            return (await self._ask(service, call, old=False)).status not in _GATEWAY
        except OutboundError:
            return False

    async def _ask(self, service: Service, call: Call, *, old: bool) -> Reply:
        query = dict(call.query)
        if old or self._legacy_token:
            query["access_token"] = service.hs_token
        prefix = call.legacy if old else PREFIX
        url = f"{service.url}{prefix}{call.path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {service.hs_token}"}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        request = HttpRequest(
            method=call.method,
            url=url,
            headers=headers,
            body=call.body,
            max_bytes=call.max_bytes,
            timeout=call.timeout,
        )
        try:
            async with asyncio.timeout(call.timeout):
                answer = await self._outbound.request(Purpose.APPSERVICES, request)
        except TimeoutError:
            raise TimedOut(f"{service.id} did not answer within {call.timeout:.0f} s") from None
        except OutboundError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise TimedOut(f"{service.id} did not answer in time") from None
            raise
        return Reply(answer.status, answer.body)


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
