"""Relations, put together."""

from __future__ import annotations

from homeserver.relations.api import RelationsApi
from homeserver.relations.redacting import REDACT, RelatedRedactions
from homeserver.relations.service import RelationsService
from homeserver.relations.threads import ThreadsService
from homeserver.sessions.acting import ActingUsers
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class RelationsFeature:
    """Service and endpoints."""

    def __init__(self, core: Core, rooms: RoomsFeature) -> None:
        parts = (core.db, rooms.access, core.events, core.visibility, rooms.bundles, rooms.older)
        self.service = RelationsService(*parts)
        self.threads = ThreadsService(*parts)
        self.redactions = RelatedRedactions(
            core.db, core.jobs, ActingUsers(core.db), rooms.sending, core.rooms, core.events
        )
        rooms.sending_api.redact_related_with(self.redactions)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="relations",
            apis=[RelationsApi(self.service, self.threads)],
            jobs={REDACT: self.redactions.carry_out},
        )
