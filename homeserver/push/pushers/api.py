"""Endpoints of pushers.

spec: client-server-api/#push-notifications (PUSH-15, PUSH-16), MSC3881
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from yarl import URL

from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, MissingParam, ThreepidNotFound
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.types import EMAIL, MAIL_APP, MAILTO, Details, Pusher
from homeserver.runtime.clock import Clock
from homeserver.threepids.addresses import canonical_email
from homeserver.web.addresses import AddressPolicy, embedded, is_public
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, endpoint
from homeserver.web.outbound import OutboundError, permitted

PATH: Final = "/_matrix/push/v1/notify"
MAX_BODY: Final = 32 * 1024
MAX_DATA: Final = 8 * 1024
"""Bytes of `data`: the gateway is told them with every notification."""
MAX_URL: Final = 1_000
"""Characters; it is part of a cursor's key (`interest.key_of`)."""
MAX_PUSHKEY: Final = 512
"""Bytes."""
_Name = Annotated[str, msgspec.Meta(max_length=255)]


class PusherBody(msgspec.Struct):
    """spec: op:postPusher."""

    kind: Literal["http", "email"] | None
    app_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    pushkey: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PUSHKEY)]
    app_display_name: _Name | None = None
    device_display_name: _Name | None = None
    lang: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    profile_tag: _Name | None = None
    data: dict[str, Any] | None = None
    append: bool = False
    enabled: bool | None = None
    msc3881_enabled: bool | None = msgspec.field(name="org.matrix.msc3881.enabled", default=None)


class PusherOut(msgspec.Struct, omit_defaults=True):
    """spec: op:getPushers; `enabled` and `device_id` of MSC3881, under both names."""

    app_id: str
    pushkey: str
    kind: str
    app_display_name: str
    device_display_name: str
    lang: str
    data: dict[str, Any]
    enabled: bool
    msc3881_enabled: bool = msgspec.field(name="org.matrix.msc3881.enabled")
    profile_tag: str | None = None
    device_id: str | None = None
    msc3881_device_id: str | None = msgspec.field(name="org.matrix.msc3881.device_id", default=None)


class Pushers(msgspec.Struct):
    """spec: op:getPushers."""

    pushers: list[PusherOut]


class PushersApi:
    """One's own."""

    def __init__(
        self,
        service: PusherService,
        clock: Clock,
        plain: Callable[[str], bool],
        is_bound: Callable[[int, str], Awaitable[bool]] | None,
    ) -> None:
        """`plain`: whether a gateway of this host name may be reached without TLS. `is_bound`: whether an e-mail address is a
        user's, by user_nid; None: no mail is sent.
        """
        self._service = service
        self._clock = clock
        self._plain = plain
        self._is_bound = is_bound

    @endpoint(
        "getPushers",
        "GET",
        "/_matrix/client/{v}/pushers",
        auth=Auth.USER,
        limit="default",
        when_suspended=True,
    )
    async def list_pushers(self, requester: Requester) -> Pushers:
        return Pushers([_out(each) for each in await self._service.list_of(requester.user_nid)])

    @endpoint(
        "postPusher",
        "POST",
        "/_matrix/client/{v}/pushers/set",
        auth=Auth.USER,
        limit="default",
        when_suspended=True,
        max_body=MAX_BODY,
    )
    async def set_pusher(self, requester: Requester, body: Body[PusherBody]) -> None:
        if len(body.pushkey.encode()) > MAX_PUSHKEY:
            raise InvalidParam(f"pushkey: more than {MAX_PUSHKEY} bytes")
        if body.kind is None:
            await self._service.delete(requester.user_nid, body.app_id, _canonical(body))
            return
        details = _details(body)
        if body.kind == EMAIL:
            pushkey, device_id = await self._address(requester, body), None
            url = f"{MAILTO}{pushkey}"
        else:
            pushkey, device_id = body.pushkey, requester.device_id
            url = self._gateway(body, details)
        enabled = body.enabled if body.enabled is not None else body.msc3881_enabled
        pusher = Pusher(
            requester.user_nid,
            body.app_id,
            pushkey,
            body.kind,
            device_id,
            enabled is not False,
            self._clock.now_ms(),
            url,
            details,
        )
        await self._service.set(pusher, append=body.append)

    async def _address(self, requester: Requester, body: PusherBody) -> str:
        """Of a pusher of kind `email` (PUSH-16). Raises `InvalidParam`, `ThreepidNotFound`."""
        if body.app_id != MAIL_APP:
            raise InvalidParam(f"app_id: of a pusher of kind email it is {MAIL_APP}")
        if self._is_bound is None:
            raise InvalidParam("kind: this server sends no notifications by mail")
        address = canonical_email(body.pushkey, where="pushkey")
        if not await self._is_bound(requester.user_nid, address):
            raise ThreepidNotFound("pushkey: this e-mail address is not one of your account")
        return address

    def _gateway(self, body: PusherBody, details: Details) -> str:
        """The URL of a gateway. Raises `MissingParam`, `InvalidParam`."""
        if body.app_id == MAIL_APP:
            raise InvalidParam(f"app_id: {MAIL_APP} is for pushers of kind email")
        url = (body.data or {}).get("url")
        if not isinstance(url, str):
            raise MissingParam("data.url: a string is needed")
        check_url(url, self._plain)
        if details.data.get("format") not in (None, "event_id_only"):
            raise InvalidParam("data.format: only event_id_only is known")
        return url


def _canonical(body: PusherBody) -> str:
    """The pushkey as it is stored: of an address, the form that all its spellings have in common."""
    if body.app_id != MAIL_APP:
        return body.pushkey
    try:
        return canonical_email(body.pushkey)
    except InvalidParam:
        return body.pushkey


def _details(body: PusherBody) -> Details:
    """What is kept of a pusher. Raises `MissingParam`, `InvalidParam`."""
    names = ["app_display_name", "device_display_name", "lang"] + ["data"] * (body.kind != EMAIL)
    missing = [name for name in names if getattr(body, name) is None]
    if missing:
        raise MissingParam(f"Missing parameters: {', '.join(missing)}")
    data = dict(body.data or {})
    if len(json.dumps(data)) > MAX_DATA:
        raise InvalidParam(f"data: more than {MAX_DATA} bytes")
    return Details(
        body.app_display_name or "",
        body.device_display_name or "",
        body.lang or "",
        {name: value for name, value in data.items() if name != "url"},
        body.profile_tag,
    )


def check_url(url: str, plain: Callable[[str], bool]) -> None:
    """Where a gateway may be; which address that is, is looked at whenever it is asked. Raises `InvalidParam`."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable():
        raise InvalidParam(f"data.url: a URL of at most {MAX_URL} ASCII characters is needed")
    try:
        parsed: URL = permitted(url)
    except OutboundError as error:
        raise InvalidParam(f"data.url: {error}") from None
    if parsed.raw_path != PATH:
        raise InvalidParam(f"data.url: its path is not {PATH}")
    if parsed.scheme != "https" and not plain(parsed.host or ""):
        raise InvalidParam("data.url: only https is allowed")


def plainly_reached(networks: Iterable[str]) -> Callable[[str], bool]:
    """Whether a gateway of a host name may be reached without TLS: addresses in private networks that the administrator has
    named, and this machine if its address is in one.
    """
    policy = AddressPolicy(networks)

    def plain(host: str) -> bool:
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            return False
        return not is_public(embedded(address)) and policy.permits(str(address))

    return plain


def _out(pusher: Pusher) -> PusherOut:
    details = pusher.details
    return PusherOut(
        app_id=pusher.app_id,
        pushkey=pusher.pushkey,
        kind=pusher.kind,
        app_display_name=details.app_display_name,
        device_display_name=details.device_display_name,
        lang=details.lang,
        data=details.data if pusher.kind == EMAIL else {**details.data, "url": pusher.url},
        enabled=pusher.enabled,
        msc3881_enabled=pusher.enabled,
        profile_tag=details.profile_tag,
        device_id=pusher.device_id,
        msc3881_device_id=pusher.device_id,
    )
