"""Calls as values."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from homeserver.matrix.ids import ServerName, UserId


class Leave(NamedTuple):
    """A delayed event whose restarting a client has left to us."""

    room: str
    identity: str
    delay_id: str
    delay_ms: int
    seen_ms: int


class OpenIdProof(NamedTuple):
    """An OpenID token, and whose server has made it."""

    token: str
    server_name: ServerName


class Delegated(NamedTuple):
    """What ends a membership when its participant has left."""

    delay_id: str
    delay_ms: int


class RemoteOpenId(Protocol):
    """Fulfilled by federation."""

    async def user_of(self, proof: OpenIdProof) -> UserId | None:
        """Whose a token of another server is, as that server says. None: nobody's, or it does not answer."""
        ...
