"""Simplified sliding sync, put together."""

from __future__ import annotations

from homeserver.config.limits import LimitsSection
from homeserver.runtime.periodic import every
from homeserver.sync.sliding.alike import AlikeRooms
from homeserver.sync.sliding.api import SlidingApi
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.extensions import ExtensionsService, Streams
from homeserver.sync.sliding.facts import RoomFacts
from homeserver.sync.sliding.material import MaterialReader
from homeserver.sync.sliding.ports import RoomLabels
from homeserver.sync.sliding.rooms import SlidingRooms
from homeserver.sync.sliding.service import SlidingService
from homeserver.sync.sliding.shared import SharedRooms
from homeserver.sync.types import Counts, Ignores, PresenceTouch
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.sync import SyncFeature

CLEAN_EVERY = 3_600.0


class SlidingFeature:
    """Connections, service, endpoint."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        core: Core,
        rooms: RoomsFeature,
        sync: SyncFeature,
        streams: Streams,
        labels: RoomLabels,
        ignores: Ignores,
        presence: PresenceTouch,
        counts: Counts,
        limits: LimitsSection,
    ) -> None:
        self.connections = Connections(core.db, core.memory, core.clock, core.entropy)
        self._facts = RoomFacts(core.db, core.tail, core.events, core.interning)
        self._shared = SharedRooms()
        selection = sync.selection
        self.service = SlidingService(
            core.tail,
            rooms.memberships,
            core.interning,
            MaterialReader(core.rooms, core.events, core.interning, self._facts, labels),
            SlidingRooms(
                core.rooms,
                core.events,
                selection.selector,
                selection.stripped,
                self._facts,
                selection.log_slices,
                self._shared,
            ),
            AlikeRooms(core.rooms, self._shared),
            ExtensionsService(streams, core.interning, sync.sticky),
            self.connections,
            sync.notifier,
            selection.log_slices,
            ignores,
            presence,
            counts,
            core.clock,
            limits.sync_timeline,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="sliding",
            apis=[SlidingApi(self.service)],
            projections=[self._facts, self._shared],
            device_listeners=[self.connections],
            periodic=[
                every(CLEAN_EVERY, self.connections.clean, name="sliding.connections", once_in_cluster=True)
            ],
        )
