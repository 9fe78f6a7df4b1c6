"""All features, put together. Each has a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from homeserver.config import Config
from homeserver.web.metrics import HttpMetrics
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.rooms import RoomsFeature


class Features:
    """Built once per process."""

    def __init__(self, config: Config, core: Core, limiter: RateLimiter) -> None:
        self.http_metrics = HttpMetrics()
        self.accounts = AccountsFeature(config, core, limiter)
        self.rooms = RoomsFeature(config, core, self.accounts.profiles, self.accounts.invites)
        self.authenticator = self.accounts.authenticator

    def apis(self) -> list[object]:
        """Objects that declare endpoints."""
        return [*self.accounts.apis(), *self.rooms.apis()]

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Background work of this process, by name; each runs until cancelled."""
        return {**self.accounts.loops()}

    async def start(self) -> None:
        """What must be loaded before the first request."""

    async def stop(self) -> None:
        """What must be written before the database is closed."""
        await self.accounts.stop()
