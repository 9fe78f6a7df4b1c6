"""Endpoints of MatrixRTC: where calls are held, and the tokens that let into them.

spec: MSC4143 (transports), MSC4195 (LiveKit). The paths without a prefix are those of lk-jwt-service, which clients append to the
address that they are told.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from homeserver.calls import jwt
from homeserver.calls.delegation import DelegatedLeaves
from homeserver.calls.livekit import LiveKitServer
from homeserver.calls.service import WHOLE_ROOM, CallTokens, Member
from homeserver.calls.types import Delegated, OpenIdProof
from homeserver.matrix.errors import BadJson, Unauthorized, Unrecognized
from homeserver.matrix.ids import RoomId, ServerName, UserId, is_server_name
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Header, endpoint

PREFIX: Final = "/_matrix/livekit"
"""Also served below it: proxies that pass on `/_matrix/` alone pass these on."""


MAX_DELAY: Final = 365 * 86_400_000
"""ms; what is longer is as good as never."""


class OpenIdToken(msgspec.Struct):
    """As `request_token` gave it."""

    access_token: str = ""
    matrix_server_name: str = ""
    token_type: str = ""
    expires_in: int = 0


class MemberClaim(msgspec.Struct):
    """A membership of a call."""

    id: str = ""
    claimed_user_id: str = ""
    claimed_device_id: str = ""


# Whatever is missing has to be answered with M_BAD_JSON, so nothing is required of the decoder.
class SfuRequest(msgspec.Struct):
    """As clients asked before memberships had ids."""

    room: str = ""
    openid_token: OpenIdToken = msgspec.field(default_factory=OpenIdToken)
    device_id: str = ""
    delay_id: str = ""
    delay_timeout: int = 0
    delay_cs_api_url: str = ""


class TokenRequest(msgspec.Struct):
    """Which call, and who. `delay_timeout` in ms."""

    room_id: str = ""
    slot_id: str = ""
    openid_token: OpenIdToken = msgspec.field(default_factory=OpenIdToken)
    member: MemberClaim = msgspec.field(default_factory=MemberClaim)
    delay_id: str = ""
    delay_timeout: int = 0
    delay_cs_api_url: str = ""


class TokenAnswer(msgspec.Struct):
    """Where LiveKit is, and what lets in."""

    url: str
    jwt: str


class LiveKitService(NamedTuple):
    """What stands behind the endpoints."""

    tokens: CallTokens
    leaves: DelegatedLeaves
    server: LiveKitServer


class TransportsApi:
    """Where calls are held."""

    def __init__(self, service_url: str | None) -> None:
        """None: this server offers no place for calls."""
        found = [{"type": "livekit", "livekit_service_url": service_url}] if service_url else []
        self._answer: dict[str, Any] = {"rtc_transports": found}

    @endpoint(
        "getRtcTransports",
        "GET",
        "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
        auth=Auth.GUEST_ALLOWED,
    )
    async def transports(self, requester: Requester) -> dict[str, Any]:
        """Lists the places for calls."""
        del requester
        return self._answer


class OwnMember(msgspec.Struct):
    """A membership of a call, of who asks."""

    id: str
    claimed_device_id: str


class OwnLeave(msgspec.Struct):
    """The end of one's own membership, as it is scheduled."""

    room_id: RoomId
    slot_id: str
    member: OwnMember
    delay_id: str


class OwnLeavesApi:
    """Leaving the end of one's membership to the homeserver. Clients take any answer but 404 for an offer, also one without a
    token: this is served where there is a LiveKit server, and nowhere else.
    """

    def __init__(self, tokens: CallTokens) -> None:
        self._tokens = tokens

    @endpoint(
        "delegateOwnDelayedLeave",
        "POST",
        "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
        auth=Auth.GUEST_ALLOWED,
        limit="call_token",
    )
    async def delegate(self, requester: Requester, body: Body[OwnLeave]) -> EmptyObject:
        """Takes the end of a membership over."""
        claim = body.member
        member = Member(body.room_id, body.slot_id, requester.user_id, claim.claimed_device_id, claim.id)
        await self._tokens.delegate_own(requester, member, body.delay_id)
        return EmptyObject()


class LiveKitApi:
    """Tokens for LiveKit, and what it tells."""

    def __init__(self, service: LiveKitService | None) -> None:
        """None: there is no LiveKit server, and nothing of this."""
        self._service = service

    @property
    def _served(self) -> LiveKitService:
        if self._service is None:
            raise Unrecognized("This server has no LiveKit server")
        return self._service

    @endpoint("getSfuToken", "POST", ["/sfu/get", PREFIX + "/sfu/get"], auth=Auth.NONE, limit="call_token")
    async def sfu_get(self, body: Body[SfuRequest]) -> TokenAnswer:
        """Lets a member of a room into its call."""
        service = self._served
        if not body.room or not body.device_id:
            raise BadJson("room, device_id: missing")
        member = Member(RoomId(body.room), WHOLE_ROOM, None, body.device_id, None)
        found = await service.tokens.admit(member, _proof(body.openid_token), _delegated(body))
        return TokenAnswer(found.url, found.jwt)

    @endpoint(
        "getCallToken", "POST", ["/get_token", PREFIX + "/get_token"], auth=Auth.NONE, limit="call_token"
    )
    async def get_token(self, body: Body[TokenRequest]) -> TokenAnswer:
        """Lets a member of a room into one of its calls."""
        service = self._served
        found = await service.tokens.admit(_member(body), _proof(body.openid_token), _delegated(body))
        return TokenAnswer(found.url, found.jwt)

    @endpoint(
        "delegateDelayedLeave",
        "POST",
        ["/delegate_delayed_leave", PREFIX + "/delegate_delayed_leave"],
        auth=Auth.NONE,
        limit="call_token",
    )
    async def delegate(self, body: Body[TokenRequest]) -> EmptyObject:
        """Leaves us the end of a membership."""
        service = self._served
        member, delegated = _member(body), _delegated(body)
        if delegated is None:
            raise BadJson("delay_id, delay_timeout, delay_cs_api_url: missing")
        await service.tokens.delegate(member, _proof(body.openid_token), delegated)
        return EmptyObject()

    @endpoint("tellSfuEvent", "POST", ["/sfu_webhook", PREFIX + "/sfu_webhook"], auth=Auth.NONE)
    async def webhook(self, body: Body[bytes], authorization: Header[str] = "") -> EmptyObject:
        """Takes what LiveKit tells of its rooms, signed with the shared secret."""
        service = self._served
        try:
            event = service.server.webhook(authorization, body)
        except jwt.BadToken:
            raise Unauthorized("Not from the LiveKit server of this server") from None
        await service.leaves.told(event)
        return EmptyObject()


def _member(body: TokenRequest) -> Member:
    claim = body.member
    if not body.room_id or not body.slot_id:
        raise BadJson("room_id, slot_id: missing")
    if not claim.id or not claim.claimed_user_id or not claim.claimed_device_id:
        raise BadJson("member: id, claimed_user_id or claimed_device_id is missing")
    return Member(
        RoomId(body.room_id), body.slot_id, UserId(claim.claimed_user_id), claim.claimed_device_id, claim.id
    )


def _proof(token: OpenIdToken) -> OpenIdProof:
    if not token.access_token or not token.matrix_server_name:
        raise BadJson("openid_token: access_token or matrix_server_name is missing")
    if not is_server_name(token.matrix_server_name):
        raise Unauthorized("The request could not be authorised")
    return OpenIdProof(token.access_token, ServerName(token.matrix_server_name))


def _delegated(body: SfuRequest | TokenRequest) -> Delegated | None:
    told = (bool(body.delay_id), body.delay_timeout > 0, bool(body.delay_cs_api_url))
    if any(told) and not all(told):
        raise BadJson("delay_id, delay_timeout, delay_cs_api_url: all or none")
    return Delegated(body.delay_id, min(body.delay_timeout, MAX_DELAY)) if all(told) else None
