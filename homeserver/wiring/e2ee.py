"""End-to-end encryption, put together."""

from __future__ import annotations

from typing import Final

from homeserver.e2ee.admin_api import CrossSigningAdminApi
from homeserver.e2ee.api import KeysApi
from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.e2ee.ending import DeviceEnding
from homeserver.e2ee.entries import (
    DeviceListSink,
    KeyCountSink,
    KeysClaimedSink,
    KeysSpentSink,
    RemoteListsSink,
)
from homeserver.e2ee.keys import KeyService
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.signatures import SignatureService
from homeserver.e2ee.stream import DeviceListStream, KeyCounts, KeyCountStream
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature

KEY_SINKS: Final = (DeviceListSink(), KeyCountSink(), KeysClaimedSink(), KeysSpentSink(), RemoteListsSink())


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
        self.counts = KeyCounts(core.db)
        self.key_counts = KeyCountStream(self.counts)
        self.device_lists = DeviceListStream(self.tracking, rooms.memberships)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        keys = KeysApi(
            self.keys,
            self.queries,
            self.tracking,
            self.cross_signing,
            self.signatures,
            self._uia,
            self._core.tail,
        )
        return Manifest(
            name="e2ee",
            apis=[keys, CrossSigningAdminApi(self.cross_signing, self._core.interning)],
            sinks=KEY_SINKS,
            projections=[self.queries, self.counts],
            streams=[self.key_counts, self.device_lists],
            device_listeners=[DeviceEnding()],
            forgets=[self.cross_signing],
        )
