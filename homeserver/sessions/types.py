"""Sessions and tokens as values."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.ids import DeviceId, UserId
from homeserver.web.rate_limit import Rate


class TokenRow(NamedTuple):
    """An access token with what is known of its user."""

    token_nid: int
    user_nid: int
    user_id: UserId
    device_id: DeviceId
    expires_ms: int | None
    fresh: bool
    """It was never used, and its use revokes the refresh token it came from."""
    is_guest: bool
    is_admin: bool
    locked: bool
    suspended: bool
    deactivated: bool
    rate_limited: bool
    rate_per_second: float | None
    """Of their own; None: as everybody."""
    rate_burst: int | None


def rate_of(row: TokenRow | ActingRow) -> Rate | None:
    """The user's own rate, if they have one."""
    if row.rate_per_second is None or row.rate_burst is None:
        return None
    return Rate(row.rate_per_second, row.rate_burst)


class MasqueradeRow(NamedTuple):
    """A user an application service acts as."""

    user_nid: int
    user_id: UserId
    is_admin: bool
    suspended: bool
    locked: bool
    appservice_id: str | None
    """The application service that made the account."""
    has_device: bool
    """Of the device that was asked for; True if none was."""


class ActingRow(NamedTuple):
    """A user for whom something is done that they have ordered before."""

    user_id: UserId
    is_guest: bool
    is_admin: bool
    locked: bool
    suspended: bool
    deactivated: bool
    rate_limited: bool
    rate_per_second: float | None
    """Of their own; None: as everybody."""
    rate_burst: int | None


class Standing(NamedTuple):
    """Whether a session's account may be used."""

    locked: bool
    deactivated: bool


class RefreshRow(NamedTuple):
    """A refresh token."""

    refresh_nid: int
    user_nid: int
    device_id: DeviceId
    parent_nid: int | None
    expires_ms: int | None
    revoked: bool
    locked: bool
    """Of its user's account."""


class Tokens(NamedTuple):
    """What a session is given; the only place where tokens stand in clear."""

    access_token: str
    device_id: DeviceId
    refresh_token: str | None = None
    expires_in_ms: int | None = None


class SessionRequest(NamedTuple):
    """What a client asks for at login or registration."""

    device_id: DeviceId | None = None
    display_name: str | None = None
    refreshable: bool = False
