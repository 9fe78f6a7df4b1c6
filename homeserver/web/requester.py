"""The proofs a handler receives: who asks. Import them from `homeserver.web.auth`.

Apart from it because `RequestInfo` carries them and the protocols in `auth.py` speak of `RequestInfo`.
"""

from __future__ import annotations

import msgspec

from homeserver.matrix.ids import DeviceId, ServerName, UserId
from homeserver.web.rate_limit import Rate


class Requester(msgspec.Struct, frozen=True, kw_only=True):
    """A local user who was authenticated for this request."""

    user_id: UserId
    user_nid: int
    device_id: DeviceId | None = None
    """None only for an appservice that named no device."""
    token_nid: int | None = None
    """The access token's row; None for an appservice."""
    is_guest: bool = False
    is_admin: bool = False
    appservice_id: str | None = None
    """Set when an appservice acts, also when it acts as one of its users."""
    named: bool = True
    """False for an appservice that did not say as which of its users it acts."""
    suspended: bool = False
    locked: bool = False
    rate_limited: bool = True
    """False for appservices and users that the administrator exempted."""
    rate: Rate | None = None
    """In place of that of every class of limits, for who was given one by an administrator."""


class AdminRequester(Requester, frozen=True, kw_only=True):
    """Proof that the requester is a server administrator: only `Auth.ADMIN` gives it."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Another homeserver whose signature over this request was checked."""

    server_name: ServerName
    rate_limited: bool = True
    """False: a limit of its own was looked at."""
