"""Reports, put together."""

from __future__ import annotations

from homeserver.reports.admin_api import ReportsAdminApi
from homeserver.reports.api import ReportsApi
from homeserver.reports.service import ReportService
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class ReportsFeature:
    """Service and endpoints."""

    def __init__(self, core: Core, rooms: RoomsFeature) -> None:
        self.service = ReportService(core.db, rooms.reading, core.rooms, core.interning, core.clock)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="reports", apis=[ReportsApi(self.service), ReportsAdminApi(self.service)])
