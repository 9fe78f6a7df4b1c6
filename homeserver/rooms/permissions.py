"""Who may make rooms, give them addresses and publish them: as the administrator has configured it."""

from __future__ import annotations

from typing import Literal

from homeserver.config.rooms import RoomsSection
from homeserver.matrix.errors import Forbidden
from homeserver.web.auth import Requester

_Allowed = Literal["nobody", "admins", "members"]


class Permissions:
    """Each question raises `Forbidden` for whom the answer is no. Application services are asked as members."""

    def __init__(self, config: RoomsSection) -> None:
        self._config = config

    def require_create(self, requester: Requester) -> None:
        _require(self._config.create, requester, "make rooms on this server")

    def require_alias(self, requester: Requester) -> None:
        _require(self._config.alias_create, requester, "give rooms an address on this server")

    def require_publish(self, requester: Requester) -> None:
        _require(self._config.directory.publish, requester, "put rooms into the list of this server")


def _require(allowed: _Allowed, requester: Requester, what: str) -> None:
    if allowed == "nobody" or (allowed == "admins" and not requester.is_admin):
        raise Forbidden(f"You may not {what}")
