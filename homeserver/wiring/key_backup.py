"""Key backups, put together."""

from __future__ import annotations

from homeserver.key_backup.api import KeyBackupApi
from homeserver.key_backup.service import KeyBackupService
from homeserver.wiring.core import Core


class KeyBackupFeature:
    """Service and endpoints."""

    def __init__(self, core: Core) -> None:
        self.service = KeyBackupService(core.db)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [KeyBackupApi(self.service)]
