"""Endpoints of logging in, refreshing and logging out.

spec: client-server-api/#legacy-api
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.auth.login import LoginService
from homeserver.devices.service import DeviceService
from homeserver.matrix.errors import Forbidden, Unknown
from homeserver.matrix.ids import DeviceId
from homeserver.sessions.appservices import LOGIN_TYPE
from homeserver.sessions.logged_in import LoggedIn, logged_in
from homeserver.sessions.service import SessionService
from homeserver.sessions.types import SessionRequest
from homeserver.uia.service import Uia, UiaBody, uia_request
from homeserver.uia.stages import PASSWORD
from homeserver.web.admission import access_token
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Body, EmptyObject, endpoint
from homeserver.web.request import RequestInfo


class LoginBody(msgspec.Struct, omit_defaults=True):
    """spec: op:login."""

    type: str
    identifier: dict[str, Any] | None = None
    password: str | None = None
    token: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool = False
    user: str | None = None
    medium: str | None = None
    address: str | None = None


class RefreshBody(msgspec.Struct):
    refresh_token: str


class Refreshed(msgspec.Struct, omit_defaults=True):
    access_token: str
    refresh_token: str | None = None
    expires_in_ms: int | None = None


class LoginToken(msgspec.Struct):
    login_token: str
    expires_in_ms: int


class AuthApi:
    """Logging in, refreshing, logging out."""

    def __init__(
        self,
        *,
        login: LoginService,
        sessions: SessionService,
        devices: DeviceService,
        uia: Uia,
        well_known: dict[str, Any] | None = None,
    ) -> None:
        """`well_known`: what clients should reconfigure themselves to, if anything."""
        self._login = login
        self._sessions = sessions
        self._devices = devices
        self._uia = uia
        self._well_known = well_known

    @endpoint("getLoginFlows", "GET", "/_matrix/client/{v}/login", auth=Auth.NONE, limit="default")
    async def flows(self) -> dict[str, Any]:
        """Lists the ways to log in."""
        return {"flows": self._login.flows()}

    @endpoint("login", "POST", "/_matrix/client/{v}/login", auth=Auth.NONE)
    async def log_in(self, body: Body[LoginBody], info: RequestInfo) -> LoggedIn:
        """Logs a device in."""
        fields = {key: value for key, value in msgspec.structs.asdict(body).items() if value is not None}
        request = SessionRequest(
            device_id=DeviceId(body.device_id) if body.device_id else None,
            display_name=body.initial_device_display_name,
            refreshable=body.refresh_token,
        )
        token = access_token(info) if body.type == LOGIN_TYPE else None
        account, tokens = await self._login.log_in(fields, request, token=token, ip=info.ip)
        return logged_in(account.user_id, tokens, self._well_known)

    @endpoint("generateLoginToken", "POST", "/_matrix/client/v1/login/get_token", auth=Auth.USER)
    async def get_token(self, requester: Requester, body: Body[UiaBody], info: RequestInfo) -> LoginToken:
        """Makes a token with which one more device can log in."""
        del body  # read as a whole by the authentication
        if not self._login.gives_tokens:
            raise Unknown("Logging in another device this way is not enabled here")
        if requester.appservice_id is not None:
            raise Forbidden("Application services log their users in themselves")
        proof = await self._uia.require(uia_request("generateLoginToken", requester, info), [[PASSWORD]])
        token, lifetime_ms = await self._login.make_token(requester.user_nid, proof)
        return LoginToken(login_token=token, expires_in_ms=lifetime_ms)

    @endpoint("refresh", "POST", "/_matrix/client/{v}/refresh", auth=Auth.NONE, limit="login")
    async def refresh(self, body: Body[RefreshBody]) -> Refreshed:
        """Exchanges a refresh token."""
        tokens = await self._sessions.refresh(body.refresh_token)
        return Refreshed(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_ms=tokens.expires_in_ms,
        )

    @endpoint(
        "logout",
        "POST",
        "/_matrix/client/{v}/logout",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        allow_locked=True,
        allow_expired=True,
        limit=None,
    )
    async def log_out(self, requester: Requester) -> EmptyObject:
        """Ends the device the token belongs to, also when the token's time is over: clients forget it whatever we say."""
        if requester.device_id is None:
            raise Forbidden("An application service has no session to end")
        await self._devices.delete(requester.user_nid, requester.user_id, [requester.device_id])
        return EmptyObject()

    @endpoint(
        "logout_all",
        "POST",
        "/_matrix/client/{v}/logout/all",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        allow_locked=True,
    )
    async def log_out_everywhere(self, requester: Requester) -> EmptyObject:
        """Ends all devices of the user."""
        await self._devices.delete_all(requester.user_nid, requester.user_id)
        return EmptyObject()
