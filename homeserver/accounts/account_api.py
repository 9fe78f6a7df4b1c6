"""Endpoints of one's own account: who am I, password, end, OpenID tokens.

spec: client-server-api/#account-management, #openid
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.accounts.ending import Deactivation
from homeserver.accounts.openid import LIFETIME_SECONDS, OpenIdTokens
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.ports import PasswordReset
from homeserver.accounts.service import AccountService
from homeserver.matrix.errors import Forbidden, MissingToken
from homeserver.matrix.ids import DeviceId, ServerName, UserId
from homeserver.uia.service import NOTHING_PROVED, Uia, uia_request
from homeserver.uia.stages import PASSWORD
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Body, EmptyObject, Path, endpoint
from homeserver.web.request import RequestInfo


class WhoAmI(msgspec.Struct, omit_defaults=True):
    """spec: op:getTokenOwner."""

    user_id: UserId
    device_id: DeviceId | None = None
    is_guest: bool = False


class PasswordBody(msgspec.Struct):
    """spec: op:changePassword."""

    new_password: str
    logout_devices: bool = True
    auth: dict[str, Any] | None = None


class DeactivateBody(msgspec.Struct):
    """spec: op:deactivateAccount."""

    auth: dict[str, Any] | None = None
    id_server: str | None = None
    erase: bool = False


class Deactivated(msgspec.Struct):
    id_server_unbind_result: str


class OpenIdCredentials(msgspec.Struct):
    """spec: op:requestOpenIdToken."""

    access_token: str
    matrix_server_name: ServerName
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105  # what kind, not which


class AccountApi:
    """What a user can do with their account."""

    def __init__(
        self,
        *,
        accounts: AccountService,
        ending: Deactivation,
        passwords: Passwords,
        uia: Uia,
        openid: OpenIdTokens,
        server_name: ServerName,
        change_password: bool = True,
        reset: PasswordReset | None = None,
    ) -> None:
        """`reset`: how people who forgot their password prove who they are; None: they cannot."""
        self._accounts = accounts
        self._ending = ending
        self._passwords = passwords
        self._uia = uia
        self._openid = openid
        self._server_name = server_name
        self._change_password = change_password
        self._reset = reset

    @endpoint(
        "getTokenOwner", "GET", "/_matrix/client/{v}/account/whoami", auth=Auth.GUEST_ALLOWED, limit="default"
    )
    async def whoami(self, requester: Requester) -> WhoAmI:
        """Whose token it is (CHECKLIST AUTH-33)."""
        return WhoAmI(user_id=requester.user_id, device_id=requester.device_id, is_guest=requester.is_guest)

    @endpoint(
        "changePassword",
        "POST",
        "/_matrix/client/{v}/account/password",
        auth=Auth.OPTIONAL,
        when_suspended=True,
    )
    async def change_password(
        self, requester: Requester | None, body: Body[PasswordBody], info: RequestInfo
    ) -> EmptyObject:
        """Sets a new password, and ends the other devices unless told not to (CHECKLIST AUTH-28)."""
        if requester is None and self._reset is not None:
            return await self._reset_password(self._reset, body, info)
        requester = _signed_in(requester)
        if not self._change_password or requester.appservice_id is not None:
            raise Forbidden("The password of this account cannot be changed")
        self._passwords.check_strength(body.new_password)
        proof = await self._uia.require(uia_request("changePassword", requester, info), [[PASSWORD]])
        await self._accounts.change_password(
            requester.user_nid,
            requester.user_id,
            body.new_password,
            keep=requester.device_id,
            logout_devices=body.logout_devices,
        )
        await self._uia.forget(proof)
        return EmptyObject()

    async def _reset_password(
        self, reset: PasswordReset, body: PasswordBody, info: RequestInfo
    ) -> EmptyObject:
        """For who cannot log in: whose account it is, the proof tells."""
        if not self._change_password:
            raise Forbidden("Nobody logs in with a password here")
        self._passwords.check_strength(body.new_password)
        proof = await self._uia.require(uia_request("changePassword", None, info), [[reset.stage]])
        await self._uia.forget(proof)
        # Used up before anything happens: two requests with one proof cannot both set a password.
        user_nid, user_id = await reset.user_of(proof)
        await self._accounts.change_password(
            user_nid, user_id, body.new_password, keep=None, logout_devices=body.logout_devices
        )
        return EmptyObject()

    @endpoint(
        "deactivateAccount",
        "POST",
        "/_matrix/client/{v}/account/deactivate",
        auth=Auth.OPTIONAL,
        when_suspended=True,
    )
    async def deactivate(
        self, requester: Requester | None, body: Body[DeactivateBody], info: RequestInfo
    ) -> Deactivated:
        """Ends the account (CHECKLIST AUTH-29)."""
        requester = _signed_in(requester)
        proof = NOTHING_PROVED
        if requester.appservice_id is None:
            proof = await self._uia.require(uia_request("deactivateAccount", requester, info), [[PASSWORD]])
        await self._ending.deactivate(requester.user_nid, requester.user_id, erase=body.erase)
        await self._uia.forget(proof)
        # Nothing is bound to an identity server here, so nothing had to be unbound.
        return Deactivated(id_server_unbind_result="success")

    @endpoint(
        "requestOpenIdToken",
        "POST",
        "/_matrix/client/{v}/user/{userId}/openid/request_token",
        auth=Auth.USER,
        limit="default",
        when_suspended=True,
    )
    async def request_openid_token(
        self, requester: Requester, user_id: Path[UserId], body: Body[dict[str, Any]]
    ) -> OpenIdCredentials:
        """Gives a token that proves to another service who one is (CHECKLIST OID-01)."""
        del body  # reserved
        if user_id != requester.user_id:
            raise Forbidden("You can only get a token for yourself")
        return OpenIdCredentials(
            access_token=await self._openid.make(requester.user_nid),
            matrix_server_name=self._server_name,
            expires_in=LIFETIME_SECONDS,
        )


def _signed_in(requester: Requester | None) -> Requester:
    """Without a token nothing tells whose account it is."""
    if requester is None:
        raise MissingToken("Missing access token")
    if requester.is_guest:
        raise Forbidden("Guests have no password")
    return requester
