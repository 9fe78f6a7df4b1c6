"""Endpoints of addresses: asking for mails, listing, adding, removing.

spec: client-server-api/#adding-account-administrative-contact-information, #account-registration-and-management
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from homeserver.matrix.errors import ServerNotTrusted, ThreepidAuthFailed, ThreepidMediumNotSupported
from homeserver.threepids.addresses import canonical_email
from homeserver.threepids.binding import Bindings
from homeserver.threepids.identity import Session as IdentitySession
from homeserver.threepids.service import ThreepidService
from homeserver.threepids.types import Purpose, ValidationRequest
from homeserver.threepids.validation import ValidationService
from homeserver.uia.service import NOTHING_PROVED, Uia, uia_request
from homeserver.uia.stages import PASSWORD
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Body, EmptyObject, endpoint
from homeserver.web.request import RequestInfo

_CLIENT: Final = "/_matrix/client/{v}"


class MailBody(msgspec.Struct):
    """spec: definitions/request_email_validation. Identity servers that clients name are passed over."""

    client_secret: str
    email: str
    send_attempt: int
    next_link: str | None = None


class PhoneBody(msgspec.Struct):
    """spec: definitions/request_msisdn_validation."""

    client_secret: str
    country: str
    phone_number: str
    send_attempt: int


class AddBody(msgspec.Struct):
    """spec: op:add3PID."""

    sid: str
    client_secret: str
    auth: dict[str, Any] | None = None


class BindBody(msgspec.Struct):
    """spec: op:bind3PID."""

    client_secret: str
    id_access_token: str
    id_server: str
    sid: str


class AddressBody(msgspec.Struct):
    """spec: op:delete3pidFromAccount, op:unbind3pidFromAccount."""

    medium: str
    address: str
    id_server: str | None = None


class Session(msgspec.Struct):
    """No `submit_url`: the link in the mail is followed without the client's help."""

    sid: str


class Address(msgspec.Struct):
    """spec: op:getAccount3PIDs. Times in Unix ms."""

    medium: str
    address: str
    validated_at: int
    added_at: int


class Addresses(msgspec.Struct):
    threepids: list[Address]


class Unbound(msgspec.Struct):
    id_server_unbind_result: Literal["no-support", "success"]


class ThreepidsApi:
    """Addresses of accounts."""

    def __init__(
        self, threepids: ThreepidService, validation: ValidationService, bindings: Bindings, uia: Uia
    ) -> None:
        self._threepids = threepids
        self._bindings = bindings
        self._validation = validation
        self._uia = uia

    # --- mails ---------------------------------------------------------------------------------------------------

    @endpoint(
        "requestTokenToRegisterEmail",
        "POST",
        _CLIENT + "/register/email/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def mail_to_register(self, body: Body[MailBody], info: RequestInfo) -> Session:
        """Sends a link with which an address is proved for a new account."""
        return await self._mail("register", body, info)

    @endpoint(
        "requestTokenTo3PIDEmail",
        "POST",
        _CLIENT + "/account/3pid/email/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def mail_to_add(self, body: Body[MailBody], info: RequestInfo) -> Session:
        """Sends a link with which an address is proved before it is added."""
        return await self._mail("add", body, info)

    @endpoint(
        "requestTokenToResetPasswordEmail",
        "POST",
        _CLIENT + "/account/password/email/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def mail_to_reset(self, body: Body[MailBody], info: RequestInfo) -> Session:
        """Sends a link with which somebody who forgot their password proves who they are."""
        return await self._mail("reset", body, info)

    @endpoint(
        "requestTokenToRegisterMSISDN",
        "POST",
        _CLIENT + "/register/msisdn/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    @endpoint(
        "requestTokenTo3PIDMSISDN",
        "POST",
        _CLIENT + "/account/3pid/msisdn/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    @endpoint(
        "requestTokenToResetPasswordMSISDN",
        "POST",
        _CLIENT + "/account/password/msisdn/requestToken",
        auth=Auth.NONE,
        limit="ui_auth",
    )
    async def text_message(self, body: Body[PhoneBody]) -> Session:
        """Refuses: this server sends no text messages."""
        del body
        raise ThreepidMediumNotSupported("This server sends no text messages")

    # --- addresses of an account ---------------------------------------------------------------------------------

    @endpoint("getAccount3PIDs", "GET", _CLIENT + "/account/3pid", auth=Auth.USER, limit="default")
    async def list_addresses(self, requester: Requester) -> Addresses:
        """Lists one's addresses."""
        found = await self._threepids.list_of(requester.user_nid)
        return Addresses([Address(t.medium, t.address, t.validated_ms, t.added_ms) for t in found])

    @endpoint("add3PID", "POST", _CLIENT + "/account/3pid/add", auth=Auth.USER, when_suspended=True)
    async def add(self, requester: Requester, body: Body[AddBody], info: RequestInfo) -> EmptyObject:
        """Adds an address that was proved (CHECKLIST AUTH-31)."""
        used = NOTHING_PROVED
        if requester.appservice_id is None:
            used = await self._uia.require(uia_request("add3PID", requester, info), [[PASSWORD]])
        proof = await self._validation.proof(body.sid, body.client_secret, "add")
        if proof is None:
            raise ThreepidAuthFailed("The link in the mail has not been followed yet")
        await self._threepids.add(requester.user_nid, proof)
        await self._uia.forget(used)
        return EmptyObject()

    @endpoint(
        "delete3pidFromAccount", "POST", _CLIENT + "/account/3pid/delete", auth=Auth.USER, when_suspended=True
    )
    async def delete(self, requester: Requester, body: Body[AddressBody]) -> Unbound:
        """Takes an address away, also from where it was bound to."""
        await self._threepids.delete(requester.user_nid, body.medium, body.address)
        return await self._unbind(requester, body)

    # --- identity servers ----------------------------------------------------------------------------------------

    @endpoint("post3PIDs", "POST", _CLIENT + "/account/3pid", auth=Auth.USER)
    async def add_as_proved_elsewhere(self, requester: Requester, body: Body[dict[str, Any]]) -> EmptyObject:
        """Refuses: what an identity server takes for proved is not proved to this server (deprecated)."""
        del requester, body
        raise ServerNotTrusted("This server proves addresses itself: /account/3pid/add")

    @endpoint("bind3PID", "POST", _CLIENT + "/account/3pid/bind", auth=Auth.USER, limit="ui_auth")
    async def bind(self, requester: Requester, body: Body[BindBody]) -> EmptyObject:
        """Has an identity server tell others who has an address (CHECKLIST IS-02)."""
        session = IdentitySession(body.sid, body.client_secret)
        user = requester.user_nid, requester.user_id
        await self._bindings.bind(user, body.id_server, body.id_access_token, session)
        return EmptyObject()

    @endpoint(
        "unbind3pidFromAccount", "POST", _CLIENT + "/account/3pid/unbind", auth=Auth.USER, when_suspended=True
    )
    async def unbind(self, requester: Requester, body: Body[AddressBody]) -> Unbound:
        """Has identity servers tell nobody any more (CHECKLIST IS-03)."""
        return await self._unbind(requester, body)

    async def _unbind(self, requester: Requester, body: AddressBody) -> Unbound:
        user = requester.user_nid, requester.user_id
        return Unbound(await self._bindings.unbind(user, body.medium, body.address, body.id_server))

    async def _mail(self, purpose: Purpose, body: MailBody, info: RequestInfo) -> Session:
        address = canonical_email(body.email)
        request = ValidationRequest(purpose, address, body.client_secret, body.send_attempt, body.next_link)
        return Session(await self._validation.request(request, info.ip))
