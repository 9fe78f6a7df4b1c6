"""What other servers are told, and what they are asked, of rooms' pasts, profiles, directories, spaces and files; put together."""

from __future__ import annotations

from typing import NamedTuple

from federation.history.access import ServerAccess
from federation.history.api import HistoryApi
from federation.history.backfilling import RemoteHistory
from federation.history.by_timestamp import EventsByTimestamp
from federation.history.moments import RemoteMoments
from federation.history.service import EventServing
from federation.history.visibility import VisibilityToServers
from federation.inbound.known import Here
from federation.inbound.missing import Gaps
from federation.inbound.remote import Remote
from federation.media.api import MediaApi
from federation.media.remote import RemoteFiles
from federation.queries.aliases import RemoteAliases
from federation.queries.directories import RemoteDirectories
from federation.queries.hierarchy import HierarchyForServers
from federation.queries.profile_api import OpenIdApi, ProfileQueryApi
from federation.queries.profiles import RemoteProfiles
from federation.queries.rooms_api import RoomQueryApi
from federation.queries.spaces import RemoteSpaces
from homeserver.config import Config
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.directory import DirectoryFeature
from homeserver.wiring.federation import FederationFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.media import MediaFeature
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.spaces import SpacesFeature


class Served(NamedTuple):
    """The features that others are told of."""

    federation: FederationFeature
    accounts: AccountsFeature
    media: MediaFeature
    rooms: RoomsFeature
    directory: DirectoryFeature
    spaces: SpacesFeature


class FederationServingFeature:
    """Endpoints for other servers, and what asks them."""

    def __init__(self, config: Config, core: Core, served: Served) -> None:
        partners = served.federation.partners
        visibility = VisibilityToServers(core.db, core.interning, core.events, core.states)
        self.access = access = ServerAccess(core.rooms, served.federation.acls, visibility, partners)
        self.events = EventServing(
            access,
            core.rooms,
            core.events,
            core.states,
            served.rooms.pages,
            AuthCover(core.db, core.events),
        )
        client = served.federation.client
        self.profiles = RemoteProfiles(client, core.memory, core.clock)
        self.aliases = RemoteAliases(client, core.memory, core.clock)
        self.directories = RemoteDirectories(client, core.memory, core.clock)
        self.remote_spaces = RemoteSpaces(client, core.memory, core.clock, core.server_name)
        self.files = RemoteFiles(client, served.federation.outbound, partners)
        self.history = _history(core, served.federation)
        self.moments = RemoteMoments(client, core.rooms, core.events, partners, core.server_name)
        if config.federation.enabled:
            self._ask(served)
        self._apis: list[object] = [OpenIdApi(served.accounts.openid)]
        if config.federation.enabled:
            self._apis += self._serving(config, core, served)

    def _ask(self, served: Served) -> None:
        """Features ask other servers."""
        served.accounts.profiles.fetch_with(self.profiles)
        served.rooms.aliases.ask_with(self.aliases)
        served.directory.api.ask_with(self.directories)
        served.directory.summaries.ask_with(self.remote_spaces)
        served.spaces.hierarchy.ask_with(self.remote_spaces)
        served.media.copies.fetch_with(self.files)
        served.rooms.history.find_older_with(self.history)
        served.rooms.older.find_with(self.history)
        served.rooms.by_timestamp.ask_with(self.moments, self.history)

    def _serving(self, config: Config, core: Core, served: Served) -> list[object]:
        media = served.media
        return [
            HistoryApi(
                self.events,
                EventsByTimestamp(self.access, served.rooms.by_timestamp),
                core.server_name,
                core.clock,
            ),
            ProfileQueryApi(
                served.accounts.profiles, core.server_name, allowed=config.federation.profile_lookup
            ),
            RoomQueryApi(
                served.rooms.aliases,
                served.directory.rooms,
                HierarchyForServers(served.spaces.local, served.federation.partners),
                config.rooms.directory,
                served.federation.partners,
            ),
            MediaApi(
                media.copies,
                media.thumbnails,
                media.blobs,
                core.entropy,
                core.server_name,
                served.federation.partners,
            ),
        ]

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        asking = (self.profiles, self.aliases, self.directories, self.remote_spaces, self.history)
        return Manifest(
            name="federation_serving",
            apis=self._apis,
            projections=[self.remote_spaces],
            stop=[each.stop for each in asking],
        )


def _history(core: Core, federation: FederationFeature) -> RemoteHistory:
    remote = Remote(federation.client, federation.partners)
    return RemoteHistory(
        remote,
        Gaps(remote, federation.checker, Here(core.events), core.outliers, core.backfill, core.clock),
        federation.checker,
        core.rooms,
        core.events,
        core.backfill,
        core.server_name,
        core.clock,
    )
