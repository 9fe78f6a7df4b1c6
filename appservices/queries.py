"""Users and aliases that nobody here knows: the service in whose namespace they are is asked before anybody is told so.

spec: application-service-api/#querying (CHECKLIST AS-15)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import structlog

from appservices.client import AppserviceClient, Call, TimedOut, segment
from appservices.registry import Registry
from appservices.types import Service
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix.errors import Unknown
from homeserver.matrix.ids import RoomAlias, UserId
from homeserver.runtime.clock import Clock
from homeserver.web.outbound import OutboundError

log = structlog.get_logger(__name__)

TIMEOUT: Final = 10.0
NO_FOR: Final = 10.0
"""Seconds for which a no holds."""
MAX_REMEMBERED: Final = 10_000
AT_ONCE: Final = 32
"""Questions under way to all services; further ones wait, and are not asked if that takes too long."""


class QueryTimedOut(Unknown):
    """spec: #querying: the service did not answer in time"""

    status = 408


class Queries:
    """Asks, each name once at a time; a no is remembered for a while."""

    def __init__(self, registry: Registry, client: AppserviceClient, clock: Clock) -> None:
        self._registry = registry
        self._client = client
        self._clock = clock
        self._noes: OrderedDict[str, float] = OrderedDict()
        self._turns = KeyedLocks()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def user(self, user_id: UserId) -> bool:
        """Whether a service says that there is such a user; it has made the account then. Raises `QueryTimedOut`."""
        services = [each for each in self._registry.services.values() if each.watches(user_id)]
        return await self._any(services, f"/users/{segment(user_id)}", user_id)

    async def alias(self, alias: RoomAlias) -> bool:
        """Whether a service says that there is such an alias; it has made it then. Raises `QueryTimedOut`."""
        services = [each for each in self._registry.services.values() if each.watches_alias(alias)]
        return await self._any(services, f"/rooms/{segment(alias)}", alias)

    async def _any(self, services: Sequence[Service], path: str, name: str) -> bool:
        services = [each for each in services if each.url is not None]
        if not services or self._noes.get(name, 0.0) > self._clock.monotonic():
            return False
        async with self._turns.of(name):
            if self._noes.get(name, 0.0) > self._clock.monotonic():
                return False
            try:
                async with asyncio.timeout(TIMEOUT), self._slots:
                    for service in services:
                        if await self._ask(service, path):
                            return True
            except (TimeoutError, TimedOut):
                raise QueryTimedOut(
                    "The application service that would know did not answer in time"
                ) from None
            self._noes[name] = self._clock.monotonic() + NO_FOR
            while len(self._noes) > MAX_REMEMBERED:
                self._noes.popitem(last=False)
        return False

    async def _ask(self, service: Service, path: str) -> bool:
        try:
            reply = await self._client.call(
                service, Call(method="GET", path=path, timeout=TIMEOUT, legacy="")
            )
        except TimedOut:
            raise
        except OutboundError as error:
            log.info("appservice.not_asked", service=service.id, reason=str(error))
            return False
        return reply.ok
