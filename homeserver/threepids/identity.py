"""Asking identity servers: whose an address is, that it is somebody's, that it no longer is, and to keep an invite for it.

Only servers that the configuration trusts are asked, whatever clients name. What clients have proved to them is shown by the
client's own token; that an address is no longer a user's by a request that this server signs. Answers are bounded.

spec: identity-service-api/, client-server-api/#third-party-invites (CHECKLIST IS-01 to IS-03)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import structlog

from homeserver.matrix import base64, canonical_json
from homeserver.matrix.errors import InvalidParam, MatrixError, ServerNotTrusted, Unavailable, Unknown
from homeserver.matrix.ids import UserId, is_user_id
from homeserver.rooms.ports import KeptInvite
from homeserver.web.outbound import Answer, HttpRequest, Outbound, OutboundError, Purpose

_log = structlog.get_logger("atrium.threepids")

_V2: Final = "/_matrix/identity/v2"
SECONDS: Final = 15.0
MAX_ANSWER: Final = 64 * 1024
MAX_TEXT: Final = 1024
"""Characters of anything that an identity server tells and that is passed on."""
MAX_KEYS: Final = 10
SHA256: Final = "sha256"

Signer = Callable[[str, str, str, bytes], str]
"""Method, path, host and canonical JSON of a request -> its `Authorization`. spec: server-server-api/#request-authentication"""
T = TypeVar("T")


class Session(NamedTuple):
    """What a client has proved to an identity server."""

    sid: str
    client_secret: str


class _HashDetails(msgspec.Struct):
    algorithms: list[str]
    lookup_pepper: str


class _Mappings(msgspec.Struct):
    mappings: dict[str, str]


class _PublicKey(msgspec.Struct):
    public_key: str
    key_validity_url: str | None = None


class _Kept(msgspec.Struct):
    token: str
    display_name: str
    public_keys: list[_PublicKey]


class IdentityServers:
    """Asks them. Keeps nothing."""

    def __init__(self, outbound: Outbound, trusted: Collection[str], sign: Signer) -> None:
        self._outbound = outbound
        self._trusted = frozenset(trusted)
        self._sign = sign

    def trusted(self, server: str) -> str:
        """The host of a server that may be asked. Raises `ServerNotTrusted`."""
        host = server.removeprefix("https://").rstrip("/").lower()
        if host not in self._trusted:
            raise ServerNotTrusted("id_server: this server works with no such identity server")
        return host

    async def bind(self, host: str, token: str, session: Session, user_id: UserId) -> tuple[str, str]:
        """Tell that what was proved is the user's: (medium, address). What the server says is raised (IS-02)."""
        body = {"sid": session.sid, "client_secret": session.client_secret, "mxid": user_id}
        answer = await self._ask(host, "POST", "/3pid/bind", body, token)
        told = _read(answer, dict[str, Any])
        medium, address = told.get("medium"), told.get("address")
        if not isinstance(medium, str) or not isinstance(address, str):
            raise Unavailable("The identity server's answer is not as specified", status=502)
        return medium[:MAX_TEXT], address[:MAX_TEXT]

    async def unbind(self, host: str, user_id: UserId, medium: str, address: str) -> bool:
        """Tell that an address is no longer the user's, signed by this server (IS-03); whether the server did it."""
        body = {"mxid": user_id, "threepid": {"medium": medium, "address": address}}
        try:
            await self._ask(host, "POST", "/3pid/unbind", body, None)
        except MatrixError as refusal:
            _log.warning("threepids.not_unbound", id_server=host, why=refusal.errcode)
            return False
        return True

    async def find(self, host: str, token: str, medium: str, address: str) -> UserId | None:
        """Whose an address is, asked by its hash. spec: identity-service-api/#client-behaviour"""
        details = _read(await self._ask(host, "GET", "/hash_details", None, token), _HashDetails)
        if SHA256 not in details.algorithms:
            raise Unknown("The identity server knows no way of asking that this server knows")
        pepper = details.lookup_pepper
        digest = base64.encode_url_safe(hashlib.sha256(f"{address} {medium} {pepper}".encode()).digest())
        body = {"algorithm": SHA256, "pepper": pepper, "addresses": [digest]}
        found = _read(await self._ask(host, "POST", "/lookup", body, token), _Mappings).mappings.get(digest)
        return UserId(found) if found is not None and is_user_id(found) else None

    async def keep_invite(self, host: str, token: str, invite: Mapping[str, Any]) -> KeptInvite:
        """Have an invite kept until somebody proves that the address is theirs. spec: op:storeInvite"""
        kept = _read(await self._ask(host, "POST", "/store-invite", invite, token), _Kept)
        keys = [each for each in kept.public_keys if len(each.public_key) <= MAX_TEXT][:MAX_KEYS]
        if not keys or not 0 < len(kept.token) <= 255:
            raise Unavailable("The identity server's answer is not as specified", status=502)
        valid = [each.key_validity_url or f"https://{host}{_V2}/pubkey/isvalid" for each in keys]
        public_keys = [
            {"public_key": each.public_key, "key_validity_url": url[:MAX_TEXT]}
            for each, url in zip(keys, valid, strict=True)
        ]
        content = {
            "display_name": kept.display_name[:MAX_TEXT],
            "public_key": keys[0].public_key,
            "key_validity_url": valid[0][:MAX_TEXT],
            "public_keys": public_keys,
        }
        return KeptInvite(kept.token, content)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _ask(
        self, host: str, method: str, path: str, body: Mapping[str, Any] | None, token: str | None
    ) -> Answer:
        """`token`: the client's; None: this server signs. Raises what the server says, `Unavailable` (502)."""
        uri = _V2 + path
        content = None if body is None else canonical_json.encode(body)
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if token is not None:
            if not token.isascii() or not token.isprintable() or len(token) > MAX_TEXT:
                raise InvalidParam("id_access_token: no token")
            headers["Authorization"] = f"Bearer {token}"
        else:
            headers["Authorization"] = self._sign(method, uri, host, content or b"")
        request = HttpRequest(
            method=method,
            url=f"https://{host}{uri}",
            headers=headers,
            body=content,
            max_bytes=MAX_ANSWER,
            timeout=SECONDS,
        )
        try:
            answer = await self._outbound.request(Purpose.IDENTITY, request)
        except OutboundError as error:
            _log.warning("threepids.identity_server_away", id_server=host, why=str(error))
            raise Unavailable("The identity server does not answer", status=502) from error
        if answer.status != 200:
            raise _refusal(answer)
        return answer


class _Refused(MatrixError):
    """An error of an identity server, passed on as it is."""

    def __init__(self, errcode: str, error: str, status: int) -> None:
        super().__init__(error, status=status)
        self.errcode = errcode  # type: ignore[misc]  # the other server's


def _refusal(answer: Answer) -> MatrixError:
    """spec: op:bind3PID: errors of the identity server are passed on (IS-02)"""
    if not 400 <= answer.status < 500:
        return Unavailable("The identity server has a fault", status=502)
    try:
        told = msgspec.json.decode(answer.body, type=dict[str, Any])
    except (ValueError, RecursionError):
        told = {}
    errcode, error = told.get("errcode"), told.get("error")
    code = errcode if isinstance(errcode, str) and errcode.isascii() and len(errcode) <= 100 else "M_UNKNOWN"
    text = error[:MAX_TEXT] if isinstance(error, str) else "The identity server refuses"
    # 401 is about the token for the identity server: clients would take it for theirs here.
    return _Refused(code, text, 403 if answer.status == 401 else answer.status)


def _read(answer: Answer, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (ValueError, RecursionError):
        raise Unavailable("The identity server's answer is not as specified", status=502) from None
