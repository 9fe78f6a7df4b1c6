"""The sync feature, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from homeserver.config.limits import LimitsSection
from homeserver.log.tail import Projection
from homeserver.runtime.figures import Gauges
from homeserver.sync.all_rooms import AllRoomsService
from homeserver.sync.all_rooms_api import AllRoomsApi
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.notifier import Notifier
from homeserver.sync.peeking import PeekingService, RoomData
from homeserver.sync.peeking_api import PeekingApi
from homeserver.sync.recipients import RecipientIndex
from homeserver.sync.selection.classify import Classifier
from homeserver.sync.selection.forward import ForwardSelector
from homeserver.sync.selection.resolution_changes import ResolutionChangeReader
from homeserver.sync.selection.selector import RoomSelector
from homeserver.sync.selection.state import StateReader
from homeserver.sync.selection.stripped import StrippedRooms
from homeserver.sync.selection.timeline import Timelines
from homeserver.sync.sticky import StickySections
from homeserver.sync.types import Counts, Ignores, PresenceTouch, Stream
from homeserver.sync.v3.api import SyncApi
from homeserver.sync.v3.filters import FilterService
from homeserver.sync.v3.rooms import RoomsStream
from homeserver.sync.v3.service import SyncService
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class Selection(NamedTuple):
    """What several kinds of sync share."""

    selector: RoomSelector
    stripped: StrippedRooms
    log_slices: LogSlices


class SyncFeature:
    """Streams, notifier, service, endpoints."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        core: Core,
        rooms: RoomsFeature,
        streams: Sequence[Stream],
        ignores: Ignores,
        presence: PresenceTouch,
        counts: Counts,
        data: RoomData,
        limits: LimitsSection,
        whole: Mapping[str, Stream] = MappingProxyType({}),
    ) -> None:
        """`whole`: those of the streams that `/initialSync` tells, by what they give."""
        recipients = RecipientIndex()
        self.notifier = Notifier(
            core.rooms, recipients, most=limits.waiting_syncs, longest=limits.sync_timeout
        )
        if core.log.several_hosts:
            core.tail.when_blind = self.notifier.interrupt
        self.filters = FilterService(core.db)
        selector = _selector(core, rooms, limits)
        stripped = StrippedRooms(core.db, core.events, core.states, core.interning)
        self.sticky = StickySections(core.sticky, core.events, core.rooms)
        stream = RoomsStream(selector, stripped, self.sticky)
        log_slices = LogSlices(core.tail, recipients)
        self._projections: list[Projection] = [stream, log_slices]
        self.selection = Selection(selector, stripped, log_slices)
        self.service = SyncService(
            core.tail,
            rooms.memberships,
            core.interning,
            stream,
            streams,
            self.notifier,
            recipients,
            log_slices,
            ignores,
            presence,
            counts,
            core.clock,
        )

        self.peeking = PeekingService(
            core.tail, rooms.access, rooms.reading, rooms.history, self.notifier, data, core.clock
        )
        self.all_rooms = self._of_all_rooms(core, rooms, ignores, presence, whole)

    def _of_all_rooms(
        self,
        core: Core,
        rooms: RoomsFeature,
        ignores: Ignores,
        presence: PresenceTouch,
        whole: Mapping[str, Stream],
    ) -> AllRoomsService:
        return AllRoomsService(
            ForwardSelector(core.db, core.rooms, core.events),
            core.tail,
            core.rooms,
            core.events,
            core.interning,
            core.visibility,
            rooms.bundles,
            rooms.memberships,
            rooms.reading,
            self.peeking,
            self.notifier,
            ignores,
            presence,
            core.clock,
            whole,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="sync",
            apis=[
                SyncApi(self.service, self.filters),
                PeekingApi(self.peeking, self.all_rooms),
                AllRoomsApi(self.all_rooms),
            ],
            projections=self._projections,
            after_batch=[self.notifier.applied],
            forgets=[self.filters],
            closing=[self.notifier.close],
            collectors=[
                Gauges([("atrium_syncs_waiting", "Long polls under way", lambda: self.notifier.waiting)])
            ],
        )


def _selector(core: Core, rooms: RoomsFeature, limits: LimitsSection) -> RoomSelector:
    return RoomSelector(
        core.rooms,
        core.events,
        core.visibility,
        Classifier(core.db, core.interning),
        Timelines(core.db, core.events, limits.sync_timeline),
        StateReader(core.db, core.states, core.interning),
        ResolutionChangeReader(core.db, core.interning),
        rooms.bundles,
    )
