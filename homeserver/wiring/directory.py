"""Finding rooms and people, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.directory.api import DirectoryApi
from homeserver.directory.descriptions import Descriptions
from homeserver.directory.open_rooms import OpenRooms
from homeserver.directory.orders import RoomListOrders
from homeserver.directory.people import Labels, PeopleSearch
from homeserver.directory.remote_people import RemotePeople
from homeserver.directory.service import RoomDirectory
from homeserver.directory.summaries import RoomSummaries
from homeserver.profiles.folded_names import FoldedNames
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class DirectoryFeature:
    """Services and endpoints."""

    def __init__(self, config: Config, core: Core, rooms: RoomsFeature, labels: Labels) -> None:
        self._descriptions = Descriptions(core.rooms, core.events, core.memory)
        self.rooms = RoomDirectory(
            core.db,
            core.rooms,
            core.events,
            core.gate,
            RoomListOrders(core.db, core.clock),
            self._descriptions,
            config.rooms.directory,
        )
        self.summaries = RoomSummaries(self.rooms, core.rooms, core.events)
        self._open_rooms = open_rooms = OpenRooms(core.db, core.events)
        self.people = PeopleSearch(core.db, config.rooms.directory, FoldedNames(core.db), open_rooms, labels)
        self._remote_people = RemotePeople(core.db, core.rooms, core.events, core.interning, core.server_name)
        self.api = DirectoryApi(self.rooms, self.summaries, rooms.aliases, self.people, core.server_name)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="directory",
            apis=[self.api],
            projections=[self._open_rooms, self._descriptions],
            readers=[self._remote_people.reader()],
        )
