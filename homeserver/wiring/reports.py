"""Reports, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.reports.admin_api import ReportsAdminApi
from homeserver.reports.api import ReportsApi
from homeserver.reports.letters import LETTER, ReportLetters
from homeserver.reports.service import ReportService
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class ReportsFeature:
    """Service and endpoints."""

    def __init__(self, config: Config, core: Core, accounts: AccountsFeature, rooms: RoomsFeature) -> None:
        recipients = config.mail.reports_to if config.mail is not None else ()
        self.letters = ReportLetters(core.db, accounts.threepids.mail, recipients, core.server_name)
        self.service = ReportService(
            core.db, rooms.reading, core.rooms, core.interning, core.clock, self.letters
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="reports",
            apis=[ReportsApi(self.service), ReportsAdminApi(self.service)],
            jobs={LETTER: self.letters.send},
        )
