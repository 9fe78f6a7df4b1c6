"""Endpoints of registration.

spec: client-server-api/#account-registration-and-management
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from homeserver.accounts.names import Names
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.service import AccountService
from homeserver.accounts.types import Account, NewAccount
from homeserver.matrix.errors import (
    BadJson,
    Exclusive,
    Forbidden,
    InvalidUsername,
    MissingParam,
    MissingToken,
    UnknownToken,
)
from homeserver.matrix.ids import DeviceId, UserId, localpart_of
from homeserver.sessions.appservices import LOGIN_TYPE
from homeserver.sessions.authenticator import TokenAuthenticator
from homeserver.sessions.logged_in import LoggedIn, logged_in
from homeserver.sessions.ports import Appservices
from homeserver.sessions.types import SessionRequest
from homeserver.uia.service import Uia, UiaRequest
from homeserver.web.admission import access_token
from homeserver.web.endpoint import Auth, Body, Query, endpoint
from homeserver.web.rate_limit import RateLimiter
from homeserver.web.request import RequestInfo


class RegisterBody(msgspec.Struct):
    """spec: op:register; `guest_access_token` and `type` stand in prose alone."""

    auth: dict[str, Any] | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool | None = None
    refresh_token: bool = False
    guest_access_token: str | None = None
    type: str | None = None


class Available(msgspec.Struct):
    available: bool


class Valid(msgspec.Struct):
    valid: bool


class RegistrationApi:
    """Making accounts."""

    def __init__(
        self,
        *,
        registration: RegistrationService,
        accounts: AccountService,
        names: Names,
        uia: Uia,
        authenticator: TokenAuthenticator,
        appservices: Appservices,
        limiter: RateLimiter,
    ) -> None:
        self._registration = registration
        self._accounts = accounts
        self._names = names
        self._uia = uia
        self._authenticator = authenticator
        self._appservices = appservices
        self._limiter = limiter

    @endpoint("register", "POST", "/_matrix/client/{v}/register", auth=Auth.NONE)
    async def register(
        self, body: Body[dict[str, Any]], info: RequestInfo, kind: Query[Literal["user", "guest"]] = "user"
    ) -> LoggedIn:
        """Makes an account, and logs it in unless told not to."""
        if kind == "guest":
            return await self._register_guest(body, info)
        whole = await self._uia.resumed(body)
        fields = _fields(whole)
        if fields.type == LOGIN_TYPE:
            return await self._register_by_appservice(fields, info)
        return await self._register_user(fields, UiaRequest("register", whole, None, info.ip), info)

    @endpoint(
        "checkUsernameAvailability",
        "GET",
        "/_matrix/client/{v}/register/available",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def available(self, username: Query[str]) -> Available:
        """Tells whether a name could be registered now."""
        self._registration.flows()
        await self._registration.check_free(self._names.wished(username))
        return Available(available=True)

    @endpoint(
        "registrationTokenValidity",
        "GET",
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def token_validity(self, token: Query[str]) -> Valid:
        """Tells whether a registration token could be used now (CHECKLIST AUTH-23)."""
        return Valid(valid=await self._registration.token_is_valid(token))

    async def _register_user(self, fields: RegisterBody, request: UiaRequest, info: RequestInfo) -> LoggedIn:
        guest = await self._guest(fields, info)
        flows = self._registration.flows()
        await self._registration.usage.require_room(None)
        user_id: UserId | None = None
        if fields.username is not None:
            # These errors come before any question is asked (CHECKLIST AUTH-20).
            user_id = self._names.wished(fields.username)
            if guest is None:
                await self._registration.check_free(user_id)
        if fields.password is not None:
            self._registration.check_password(fields.password)
        proof = await self._uia.require(request, flows)
        if fields.password is None:
            raise MissingParam("Missing required key: password")
        self._limiter.hit_address("registration", info.ip)
        session = self._session(fields)
        if guest is not None:
            made = await self._registration.upgrade_guest(
                guest, password=fields.password, session=session, proof=proof
            )
        else:
            new = NewAccount(user_id or self._names.any())
            made = await self._registration.register(
                new, password=fields.password, session=session, proof=proof
            )
        return logged_in(made.user_id, made.tokens)

    async def _guest(self, fields: RegisterBody, info: RequestInfo) -> Account | None:
        """The guest account that is to become a user's (CHECKLIST AUTH-22)."""
        if fields.guest_access_token is None:
            return None
        requester = await self._authenticator.authenticate(fields.guest_access_token, info)
        if not requester.is_guest:
            raise Forbidden("guest_access_token: not the token of a guest")
        if fields.username is None or fields.username.lower() != localpart_of(requester.user_id):
            raise InvalidUsername("username: must be the guest's own when a guest becomes a user")
        return await self._accounts.get(requester.user_nid)

    async def _register_guest(self, body: dict[str, Any], info: RequestInfo) -> LoggedIn:
        """Of the body only `initial_device_display_name` counts (CHECKLIST AUTH-21)."""
        if not self._registration.config.guests:
            raise Forbidden("Guest access is disabled")
        self._limiter.hit_address("registration", info.ip)
        name = body.get("initial_device_display_name")
        session = SessionRequest(display_name=name if isinstance(name, str) else None)
        new = NewAccount(self._names.any(), is_guest=True)
        made = await self._registration.register(new, password=None, session=session)
        return logged_in(made.user_id, made.tokens)

    async def _register_by_appservice(self, fields: RegisterBody, info: RequestInfo) -> LoggedIn:
        """spec: application-service-api/#server-admin-style-permissions."""
        token = access_token(info)
        if token is None:
            raise MissingToken("Missing access token")
        appservice = self._appservices.by_token(token)
        if appservice is None:
            raise UnknownToken("Unknown application service token", soft_logout=False)
        if fields.username is None:
            raise MissingParam("Missing required key: username")
        user_id = self._names.wished(fields.username, appservice=appservice.id)
        if not appservice.covers(user_id):
            raise Exclusive("This user is not one of the application service's")
        new = NewAccount(user_id, appservice_id=appservice.id)
        session = self._session(fields)
        made = await self._registration.register(new, password=None, session=session)
        return logged_in(made.user_id, made.tokens)

    def _session(self, fields: RegisterBody) -> SessionRequest | None:
        inhibit = fields.inhibit_login
        if inhibit or (inhibit is None and self._registration.config.inhibit_login_by_default):
            return None
        return SessionRequest(
            device_id=DeviceId(fields.device_id) if fields.device_id else None,
            display_name=fields.initial_device_display_name,
            refreshable=fields.refresh_token,
        )


def _fields(body: Mapping[str, Any]) -> RegisterBody:
    try:
        return msgspec.convert(body, RegisterBody)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        raise BadJson(f"{where.strip('`').removeprefix('$.')}: {what}") from None
