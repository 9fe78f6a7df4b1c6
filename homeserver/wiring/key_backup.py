"""Key backups, put together."""

from __future__ import annotations

from homeserver.key_backup.api import KeyBackupApi
from homeserver.key_backup.service import KeyBackupService
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class KeyBackupFeature:
    """Service and endpoints."""

    def __init__(self, core: Core) -> None:
        self.service = KeyBackupService(core.db)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="key_backup", apis=[KeyBackupApi(self.service)], forgets=[self.service])
