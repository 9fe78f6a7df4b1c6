"""Who is asking: the kinds of authentication an endpoint can declare, and the proofs its handler receives.

Owns the vocabulary. Looking a token up belongs to `homeserver.sessions`, checking a server's signature to `federation`;
both fulfil the protocols below. Whom an endpoint lets in is decided in `admission.py`.

spec: client-server-api/#client-authentication, server-server-api/#request-authentication
"""

from __future__ import annotations

import enum
from typing import Protocol

from homeserver.web.request import RequestInfo
from homeserver.web.requester import AdminRequester, Origin, Requester


class Auth(enum.Enum):
    """What a request must prove before the handler sees it."""

    NONE = "none"
    """Nothing; a token that is sent is ignored."""
    OPTIONAL = "optional"
    """A token may be absent, but a bad one is refused. The handler takes `Requester | None`."""
    USER = "user"
    """A user's token, or an appservice's (acting as its own user or, with `?user_id=`, as another of its users)."""
    GUEST_ALLOWED = "guest"
    """As USER, and guests too. spec: client-server-api/#guest-access"""
    ADMIN = "admin"
    """A server administrator's token. The handler takes `AdminRequester`."""
    APPSERVICE = "appservice"
    """An appservice's token and no other."""
    SERVER = "server"
    """Another homeserver's signature. The handler takes `Origin`."""


class Authenticator(Protocol):
    """Turns access tokens into requesters; fulfilled by `homeserver.sessions`."""

    def cached(self, token: str, info: RequestInfo) -> Requester | None:
        """The requester if memory knows the token to be valid now; None means "ask `authenticate`".

        Called on every request: no I/O, no await. `info` is for `?user_id=` of an appservice and for "last seen".
        """
        ...

    async def authenticate(self, token: str, info: RequestInfo, *, allow_expired: bool = False) -> Requester:
        """Raises `UnknownToken` (with `soft_logout` where due), `UserDeactivated`, `Forbidden`.

        `allow_expired`: a token whose time is over is good enough.
        """
        ...


class ServerAuthenticator(Protocol):
    """Checks `Authorization: X-Matrix`; fulfilled by `federation`."""

    async def authenticate(self, info: RequestInfo, body: bytes) -> Origin:
        """`info.method`, `info.uri` and `body` are what was signed. Raises `Unauthorized` or `Forbidden`."""
        ...


__all__ = ["AdminRequester", "Auth", "Authenticator", "Origin", "Requester", "ServerAuthenticator"]
