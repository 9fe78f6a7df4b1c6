"""The sync feature, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from homeserver.config.limits import LimitsSection
from homeserver.runtime.figures import Gauges
from homeserver.sync.all_rooms import AllRoomsService
from homeserver.sync.all_rooms_api import AllRoomsApi
from homeserver.sync.api import PeekingApi, SyncApi
from homeserver.sync.filters import FilterService
from homeserver.sync.log_slices import LogSlices
from homeserver.sync.notifier import Notifier
from homeserver.sync.peeking import PeekingService, RoomData
from homeserver.sync.recipients import RecipientIndex
from homeserver.sync.rooms.classify import Classifier
from homeserver.sync.rooms.resolution_changes import ResolutionChangeReader
from homeserver.sync.rooms.state import StateReader
from homeserver.sync.rooms.stream import RoomsStream
from homeserver.sync.rooms.stripped import StrippedRooms
from homeserver.sync.rooms.timeline import Timelines
from homeserver.sync.service import SyncService
from homeserver.sync.types import Counts, Ignores, PresenceTouch, Stream
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


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
        self.filters = FilterService(core.db)
        stream = _rooms_stream(core, rooms, limits)
        log_slices = LogSlices(core.tail, recipients)
        self._projections = (stream, log_slices)
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
            core.db,
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


def _rooms_stream(core: Core, rooms: RoomsFeature, limits: LimitsSection) -> RoomsStream:
    return RoomsStream(
        core.rooms,
        core.events,
        core.interning,
        core.visibility,
        Classifier(core.db, core.interning),
        Timelines(core.db, core.events, limits.sync_timeline),
        StateReader(core.db, core.states, core.interning),
        ResolutionChangeReader(core.db, core.interning),
        StrippedRooms(core.events, core.states, core.interning),
        rooms.bundles,
    )
