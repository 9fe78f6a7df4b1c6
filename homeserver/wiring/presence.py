"""The presence feature, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.presence.api import PresenceApi
from homeserver.presence.elsewhere import TICK, RemotePresence
from homeserver.presence.entries import PresenceSink
from homeserver.presence.service import PresenceService
from homeserver.presence.stream import Names, PresenceStream
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.periodic import Periodic, every
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


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
            server_name=core.server_name,
        )
        self.elsewhere = (
            RemotePresence(core.db, core.log, core.interning, memberships, core.clock, core.server_name)
            if config.presence.enabled
            else None
        )
        self.stream = PresenceStream(core.db, self.service, memberships, names)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="presence",
            apis=[PresenceApi(self.service, self._core.clock)],
            sinks=[PresenceSink()],
            projections=[self.stream, *([self.elsewhere] if self.elsewhere is not None else [])],
            streams=[self.stream],
            periodic=[every(5.0, self.service.tick, name="presence"), *self._elsewhere_ends()],
        )

    def _elsewhere_ends(self) -> list[Periodic]:
        if self.elsewhere is None:
            return []
        return [every(TICK, self.elsewhere.tick, name="presence.elsewhere", once_in_cluster=True)]
