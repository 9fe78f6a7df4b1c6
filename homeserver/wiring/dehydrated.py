"""Dehydrated devices, put together."""

from __future__ import annotations

from homeserver.dehydrated.api import DehydratedApi
from homeserver.dehydrated.service import DehydratedService
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.e2ee import E2eeFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.to_device import ToDeviceFeature


class DehydratedFeature:
    """Service and endpoints."""

    def __init__(
        self, core: Core, accounts: AccountsFeature, e2ee: E2eeFeature, to_device: ToDeviceFeature
    ) -> None:
        self.service = DehydratedService(
            core.db, accounts.devices, e2ee.keys, e2ee.cross_signing, to_device.service
        )
        accounts.sessions.never_open(self.service)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="dehydrated", apis=[DehydratedApi(self.service)])
