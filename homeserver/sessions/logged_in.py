"""The answer to whoever has logged in or registered."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.ids import DeviceId, UserId
from homeserver.sessions.types import Tokens


class LoggedIn(msgspec.Struct, omit_defaults=True):
    """spec: op:login, op:register."""

    user_id: UserId
    home_server: str
    access_token: str | None = None
    device_id: DeviceId | None = None
    refresh_token: str | None = None
    expires_in_ms: int | None = None
    well_known: dict[str, Any] | None = None


def logged_in(user_id: UserId, tokens: Tokens | None, well_known: dict[str, Any] | None = None) -> LoggedIn:
    """The answer of login and registration."""
    home_server = user_id.partition(":")[2]
    if tokens is None:
        return LoggedIn(user_id=user_id, home_server=home_server)
    return LoggedIn(
        user_id=user_id,
        home_server=home_server,
        access_token=tokens.access_token,
        device_id=tokens.device_id,
        refresh_token=tokens.refresh_token,
        expires_in_ms=tokens.expires_in_ms,
        well_known=well_known,
    )
