"""Places where devices meet, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.rendezvous.api import RendezvousApi
from homeserver.rendezvous.service import CLEAN_EVERY, Rendezvous
from homeserver.runtime.periodic import every
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class RendezvousFeature:
    """Service and endpoints."""

    def __init__(self, config: Config, core: Core) -> None:
        self._who = config.auth.rendezvous
        self.service = Rendezvous(core.db, core.clock, core.entropy)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="rendezvous",
            apis=[RendezvousApi(self.service, self._who)],
            periodic=[every(CLEAN_EVERY, self.service.clean, name="rendezvous.clean", once_in_cluster=True)],
        )
