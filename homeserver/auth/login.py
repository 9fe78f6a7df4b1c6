"""Logging in: with a password, a login token, or as an application service.

spec: client-server-api/#login, application-service-api/#server-admin-style-permissions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.accounts.password_check import PasswordCheck
from homeserver.accounts.service import AccountService
from homeserver.accounts.types import Account
from homeserver.accounts.usage import UsageLimit
from homeserver.auth.identifiers import Identifiers
from homeserver.config.auth import AuthSection
from homeserver.devices.service import DeviceService
from homeserver.matrix.errors import (
    Exclusive,
    Forbidden,
    MissingParam,
    MissingToken,
    Unknown,
    UnknownToken,
    UserDeactivated,
    UserLocked,
)
from homeserver.sessions.appservices import LOGIN_TYPE
from homeserver.sessions.login_tokens import LoginTokens
from homeserver.sessions.ports import Appservices
from homeserver.sessions.service import SessionService, in_ms
from homeserver.sessions.types import SessionRequest, Tokens
from homeserver.uia.service import Verified
from homeserver.web.rate_limit import RateLimiter

PASSWORD = "m.login.password"  # noqa: S105  # the name of a login type
TOKEN = "m.login.token"  # noqa: S105  # likewise


class LoginService:
    """Lets people in."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        *,
        config: AuthSection,
        sessions: SessionService,
        passwords: PasswordCheck,
        identifiers: Identifiers,
        appservices: Appservices,
        tokens: LoginTokens,
        accounts: AccountService,
        limiter: RateLimiter,
        devices: DeviceService,
        usage: UsageLimit,
    ) -> None:
        self._usage = usage
        self._devices = devices
        self._config = config
        self._sessions = sessions
        self._passwords = passwords
        self._identifiers = identifiers
        self._appservices = appservices
        self._tokens = tokens
        self._accounts = accounts
        self._limiter = limiter

    def flows(self) -> list[dict[str, Any]]:
        """The ways in, as `GET /login` lists them."""
        flows: list[dict[str, Any]] = []
        if self._config.password_login:
            flows.append({"type": PASSWORD})
        if self._config.login_tokens:
            flows.append({"type": TOKEN, "get_login_token": True})
        flows.append({"type": LOGIN_TYPE})
        return flows

    async def log_in(
        self, fields: Mapping[str, Any], request: SessionRequest, *, token: str | None, ip: str
    ) -> tuple[Account, Tokens]:
        """Check the proof and open a session. `fields` is the body; `token` the request's own, for appservices.

        Raises:
            Unknown: no such login type here.
            Forbidden, UserDeactivated, UserLocked, LimitExceeded, ResourceLimitExceeded: not let in.
        """
        self._limiter.hit_address("login", ip)
        kind = fields.get("type")
        if kind == PASSWORD and self._config.password_login:
            account = await self._by_password(fields)
        elif kind == TOKEN and self._config.login_tokens:
            account = await self._by_token(fields)
        elif kind == LOGIN_TYPE:
            account = await self._by_appservice(fields, token)
        else:
            raise Unknown("Bad login type")
        if account.deactivated:
            raise UserDeactivated("This account has been deactivated")
        if account.locked:
            raise UserLocked("This account is locked", soft_logout=True)
        await self._usage.require_room(account)
        tokens = await self._sessions.open(account.user_nid, request)
        await self._devices.make_room(account.user_nid, account.user_id, tokens.device_id)
        return account, tokens

    @property
    def gives_tokens(self) -> bool:
        """Whether a session may admit another one."""
        return self._config.login_tokens

    async def make_token(self, user_nid: int, proof: Verified) -> tuple[str, int]:
        """A token that lets one more device in, and how many milliseconds it is valid. Uses the proof up."""
        lifetime_ms = in_ms(self._config.login_token_lifetime) or 0
        return await self._tokens.make(user_nid, lifetime_ms, proof), lifetime_ms

    async def _by_password(self, fields: Mapping[str, Any]) -> Account:
        password = _text(fields, "password")
        user_id = await self._identifiers.resolve(fields)
        account = await self._passwords.check(user_id, password, self._identifiers.label(fields))
        self._limiter.hit("login", account.user_id)
        return account

    async def _by_token(self, fields: Mapping[str, Any]) -> Account:
        user_nid = await self._tokens.take(_text(fields, "token"))
        if user_nid is None:
            raise Forbidden("Invalid login token")
        return await self._accounts.get(user_nid)

    async def _by_appservice(self, fields: Mapping[str, Any], token: str | None) -> Account:
        """spec: CHECKLIST AUTH-34."""
        if token is None:
            raise MissingToken("Missing access token")
        appservice = self._appservices.by_token(token)
        if appservice is None:
            raise UnknownToken("Unknown application service token", soft_logout=False)
        user_id = await self._identifiers.resolve(fields)
        if user_id is None or not appservice.covers(user_id):
            raise Exclusive("This user is not one of the application service's")
        account = await self._passwords.find(user_id)
        if account is None:
            raise Forbidden("This user is not registered")
        if account.is_admin and account.appservice_id != appservice.id:
            # The session would have the rights of an administrator, for good.
            raise Forbidden("An application service cannot log in as an administrator")
        return account


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise MissingParam(f"Missing required key: {key}")
    return value
