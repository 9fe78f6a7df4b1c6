"""The endpoint of room upgrades.

spec: client-server-api/#room-upgrades
"""

from __future__ import annotations

import msgspec

from homeserver.matrix.ids import RoomId
from homeserver.rooms.upgrade import UpgradeService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint


class UpgradeBody(msgspec.Struct):
    """spec: op:upgradeRoom."""

    new_version: str
    additional_creators: list[str] = []


class Upgraded(msgspec.Struct):
    replacement_room: RoomId


class UpgradeApi:
    """Replacing rooms."""

    def __init__(self, upgrades: UpgradeService) -> None:
        self._upgrades = upgrades

    @endpoint(
        "upgradeRoom", "POST", "/_matrix/client/{v}/rooms/{roomId}/upgrade", auth=Auth.USER, limit="room"
    )
    async def upgrade(self, requester: Requester, room_id: Path[RoomId], body: Body[UpgradeBody]) -> Upgraded:
        """Replaces a room by one of another version."""
        new = await self._upgrades.upgrade(requester, room_id, body.new_version, body.additional_creators)
        return Upgraded(new)
