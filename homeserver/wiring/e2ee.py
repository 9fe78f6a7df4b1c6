"""End-to-end encryption, put together."""

from __future__ import annotations

from homeserver.e2ee.admin_api import CrossSigningAdminApi
from homeserver.e2ee.api import KeysApi
from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.e2ee.ending import DeviceEnding
from homeserver.e2ee.keys import KeyService
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.signatures import SignatureService
from homeserver.e2ee.stream import DeviceListStream, KeyCounts, KeyCountStream
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.rooms import RoomsFeature


class E2eeFeature:
    """Services, projections, stream, endpoints."""

    def __init__(self, core: Core, accounts: AccountsFeature, rooms: RoomsFeature) -> None:
        self._core = core
        self._uia = accounts.uia
        self.keys = KeyService(core.db, core.log, core.interning, core.server_name)
        self.cross_signing = CrossSigningService(core.db, core.log, core.clock)
        self.signatures = SignatureService(core.db, core.log, core.interning)
        self.tracking = DeviceTracking(core.db, core.rooms, rooms.memberships, core.interning)
        self.queries = KeyQueries(core.db, core.interning, core.server_name)
        core.tail.attach(self.queries)
        counts = KeyCounts(core.db)
        core.tail.attach(counts)
        self.streams = (KeyCountStream(counts), DeviceListStream(self.tracking, rooms.memberships))
        accounts.devices.listen(DeviceEnding())

    def apis(self) -> list[object]:
        """Endpoints."""
        return [
            KeysApi(
                self.keys,
                self.queries,
                self.tracking,
                self.cross_signing,
                self.signatures,
                self._uia,
                self._core.tail,
            ),
            CrossSigningAdminApi(self.cross_signing, self._core.interning),
        ]
