"""Relations, put together."""

from __future__ import annotations

from homeserver.relations.api import RelationsApi
from homeserver.relations.service import RelationsService
from homeserver.relations.threads import ThreadsService
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class RelationsFeature:
    """Service and endpoints."""

    def __init__(self, core: Core, rooms: RoomsFeature) -> None:
        parts = (core.db, rooms.access, core.events, core.visibility, rooms.bundles, rooms.older)
        self.service = RelationsService(*parts)
        self.threads = ThreadsService(*parts)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="relations", apis=[RelationsApi(self.service, self.threads)])
