"""The account data feature, put together."""

from __future__ import annotations

from homeserver.account_data.api import AccountDataApi
from homeserver.account_data.ignores import Ignores, InvitePermissions
from homeserver.account_data.service import AccountDataService
from homeserver.account_data.stream import AccountDataStream
from homeserver.wiring.core import Core


class AccountDataFeature:
    """Service, projection, stream, endpoints."""

    def __init__(self, core: Core) -> None:
        self.service = AccountDataService(core.db, core.log, core.interning)
        self.ignores = Ignores(core.db)
        core.tail.attach(self.ignores)
        self.invites = InvitePermissions(self.ignores, core.interning)
        self.stream = AccountDataStream(core.db)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [AccountDataApi(self.service, self.stream)]
