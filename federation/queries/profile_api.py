"""Endpoints that tell other servers of our users.

spec: server-server-api/#querying-for-information, #openid
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeserver.accounts.openid import OpenIdTokens
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound, UnknownToken
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.profiles.service import ProfileService
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Path, Query, endpoint

QUERY: Final = "/_matrix/federation/v1/query"


class OpenIdUser(msgspec.Struct):
    """spec: op:exchangeOpenIdToken."""

    sub: UserId


class ProfileQueryApi:
    """Names and pictures of our users."""

    def __init__(self, profiles: ProfileService, server_name: ServerName, *, allowed: bool) -> None:
        self._profiles = profiles
        self._server_name = server_name
        self._allowed = allowed

    @endpoint("queryProfile", "GET", f"{QUERY}/profile", auth=Auth.SERVER)
    async def profile(
        self, origin: Origin, user_id: Query[UserId], field: Query[str | None] = None
    ) -> dict[str, Any]:
        """Tells a profile, or one field of it; a field that is not set is left out (FED-36)."""
        del origin
        if not self._allowed:
            raise Forbidden("This server does not tell others of its users")
        if domain_of(user_id) != self._server_name:
            raise InvalidParam("user_id: not a user of this server")
        profile = await self._profiles.get(user_id)
        return {key: value for key, value in profile.items() if field is None or key == field}

    @endpoint("queryInfo", "GET", f"{QUERY}/{{queryType}}", auth=Auth.SERVER)
    async def other(self, origin: Origin, query_type: Path[str]) -> dict[str, Any]:
        """There are no other queries."""
        del origin
        raise NotFound(f"There is no query of this type: {query_type[:100]}")


class OpenIdApi:
    """Whose an OpenID token is."""

    def __init__(self, tokens: OpenIdTokens) -> None:
        self._tokens = tokens

    @endpoint(
        "exchangeOpenIdToken",
        "GET",
        "/_matrix/federation/v1/openid/userinfo",
        auth=Auth.NONE,
        limit="default",
    )
    async def user_info(self, access_token: Query[str] = "") -> OpenIdUser:
        """Tells whose a token is (FED-40)."""
        user_id = await self._tokens.user_of(access_token) if access_token else None
        if user_id is None:
            raise UnknownToken("Access token unknown or expired")
        return OpenIdUser(user_id)
