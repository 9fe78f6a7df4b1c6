"""The account data feature, put together."""

from __future__ import annotations

from homeserver.account_data.api import AccountDataApi
from homeserver.account_data.entries import AccountDataSink
from homeserver.account_data.ignores import Ignores, InvitePermissions
from homeserver.account_data.labels import LabelsOfRooms
from homeserver.account_data.service import AccountDataService
from homeserver.account_data.stream import AccountDataStream
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class AccountDataFeature:
    """Service, projection, stream, endpoints."""

    def __init__(self, core: Core) -> None:
        self.service = AccountDataService(core.db, core.log, core.interning)
        self.ignores = Ignores(core.db, core.memory)
        self.labels = LabelsOfRooms(core.db, core.memory)
        self.invites = InvitePermissions(self.ignores, core.interning)
        self.stream = AccountDataStream(core.db)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="account_data",
            apis=[AccountDataApi(self.service, self.stream)],
            sinks=[AccountDataSink()],
            projections=[self.ignores, self.labels],
            streams=[self.stream],
            forgets=[self.service],
            policy=[self.invites.check],
        )
