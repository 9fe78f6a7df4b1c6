"""Counting the hosts that serve, put together: where several share the database."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.runtime.hosts import EVERY, Hosts
from homeserver.runtime.periodic import every
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class HostsFeature:
    """Tells the limiter among how many it shares."""

    def __init__(self, config: Config, core: Core, limiter: RateLimiter) -> None:
        self._shared = config.database.shared
        self.hosts = Hosts(core.db, core.entropy, config.server.processes, limiter.share_among)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        if not self._shared:
            return Manifest(name="hosts")
        return Manifest(
            name="hosts",
            periodic=[every(EVERY, self.hosts.count, name="hosts.count", first=0.5)],
            stop=[self.hosts.leave],
        )
