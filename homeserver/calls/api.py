"""The endpoint that gives clients a password for the TURN server.

spec: client-server-api/#voice-over-ip (CHECKLIST VOIP)
"""

from __future__ import annotations

import base64
import hmac

import msgspec

from homeserver.config.calls import TurnSection
from homeserver.matrix.errors import GuestAccessForbidden, NotFound
from homeserver.runtime.clock import Clock
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import endpoint


class TurnServer(msgspec.Struct):
    """spec: op:getTurnServer. `ttl` in seconds."""

    username: str
    password: str
    uris: list[str]
    ttl: int


class CallsApi:
    """Passwords for the TURN server."""

    def __init__(self, config: TurnSection | None, clock: Clock) -> None:
        """None: there is no such server."""
        self._config = config
        self._clock = clock

    @endpoint("getTurnServer", "GET", "/_matrix/client/{v}/voip/turnServer", auth=Auth.GUEST_ALLOWED)
    async def turn_server(self, requester: Requester) -> TurnServer:
        """Gives a password that is valid for a while."""
        config = self._config
        if config is None:
            raise NotFound("This server has no TURN server")
        if requester.is_guest and not config.guests:
            raise GuestAccessForbidden("Guests may not call")
        ttl = int(config.lifetime)
        if config.shared_secret is None:
            assert config.username is not None
            assert config.password is not None
            return TurnServer(config.username, config.password.get_secret_value(), list(config.uris), ttl)
        # As coturn and others take it: draft-uberti-behave-turn-rest-00, section 2.2.
        username = f"{self._clock.now_ms() // 1000 + ttl}:{requester.user_id}"
        digest = hmac.digest(config.shared_secret.get_secret_value().encode(), username.encode(), "sha1")
        return TurnServer(username, base64.b64encode(digest).decode(), list(config.uris), ttl)
