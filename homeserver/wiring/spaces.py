"""Spaces, put together."""

from __future__ import annotations

from homeserver.runtime.periodic import every
from homeserver.spaces.api import SpacesApi
from homeserver.spaces.local_rooms import LocalRooms
from homeserver.spaces.service import SpaceHierarchy
from homeserver.wiring.core import Core
from homeserver.wiring.directory import DirectoryFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature

CLEAN_EVERY = 1_800.0


class SpacesFeature:
    """Service and endpoint."""

    def __init__(self, core: Core, rooms: RoomsFeature, directory: DirectoryFeature) -> None:
        self.local = LocalRooms(core.rooms, core.interning, core.events, directory.summaries)
        self.hierarchy = SpaceHierarchy(
            core.db, self.local, rooms.memberships, core.interning, core.clock, core.entropy
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="spaces",
            apis=[SpacesApi(self.hierarchy)],
            periodic=[every(CLEAN_EVERY, self.hierarchy.clean, name="spaces.walks", once_in_cluster=True)],
        )
