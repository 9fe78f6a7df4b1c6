"""The presence feature, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.presence.api import PresenceApi
from homeserver.presence.service import PresenceService
from homeserver.presence.stream import Names, PresenceStream
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.periodic import Periodic, every
from homeserver.wiring.core import Core


class PresenceFeature:
    """Service, stream, endpoints."""

    def __init__(self, config: Config, core: Core, memberships: Memberships, names: Names) -> None:
        self._core = core
        self.service = PresenceService(
            core.db,
            core.log,
            core.interning,
            core.clock,
            config=config.presence,
            alone=core.tail.alone,
        )
        self.stream = PresenceStream(core.db, self.service, memberships, names)
        core.tail.attach(self.stream)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [PresenceApi(self.service, self._core.clock)]

    def periodic(self) -> list[Periodic]:
        """Background work."""
        return [every(5.0, self.service.tick, name="presence")]
