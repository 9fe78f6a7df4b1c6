"""Who makes a request of another server: `web.auth.ServerAuthenticator`.

spec: server-server-api/#request-authentication (CHECKLIST FED-01 to FED-04, FED-07)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from aiohttp import hdrs

from federation import x_matrix
from federation.keys.ring import KeyRing
from federation.ports import Partners
from federation.transport.backoff import Backoff
from federation.x_matrix import Credentials
from homeserver.events.signatures import KeyRecord, WantedKeys, valid_until
from homeserver.matrix import canonical_json, json
from homeserver.matrix.errors import Forbidden, InvalidSignature, MatrixError, Unauthorized
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import verify_bytes
from homeserver.runtime.clock import Clock
from homeserver.web.auth import Origin
from homeserver.web.body import check_work
from homeserver.web.rate_limit import RateLimiter
from homeserver.web.request import RequestInfo

IN_THREAD: Final = 128 * 1024
"""Bytes of a body from which hashing it would hold up the event loop."""


class RequestAuthenticator:
    """Checks `Authorization: X-Matrix`."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        server_name: ServerName,
        ring: KeyRing,
        partners: Partners,
        backoff: Backoff,
        clock: Clock,
        limiter: RateLimiter,
    ) -> None:
        self._limiter = limiter
        self._server_name = server_name
        self._ring = ring
        self._partners = partners
        self._backoff = backoff
        self._clock = clock

    async def authenticate(self, info: RequestInfo, body: bytes) -> Origin:
        """See `ServerAuthenticator`. Whatever is wrong with the header is 401, never our fault."""
        credentials = self._credentials(info.headers.getall(hdrs.AUTHORIZATION, []))
        origin = credentials[0].origin
        if not self._partners.may_speak(origin):
            self._partners.refused(origin, "server")
            raise Forbidden("This server does not speak with yours")
        now = self._clock.now_ms()
        wanted = WantedKeys(origin, frozenset(each.key_id for each in credentials), now)
        keys = self._ring.at_hand(wanted) or await self._sought(wanted, info.ip)
        # spec: #publishing-keys: old keys are for events alone
        usable = {key.key_id: key for key in keys if not key.old and valid_until(key) >= now}
        signed = _Signed(info.method, info.uri, self._server_name)
        if len(body) < IN_THREAD:
            signed.check(credentials, usable, body)
        else:
            await asyncio.to_thread(signed.check, credentials, usable, body)
        self._backoff.heard_from(origin)
        return Origin(server_name=origin, rate_limited=self._partners.admit_request(origin))

    async def _sought(self, wanted: WantedKeys, address: str) -> Collection[KeyRecord]:
        """The keys of a server that are not in memory. Nobody has proved anything yet, and anybody may say any name: how often one
        address makes us ask others has a limit. Raises `LimitExceeded`.
        """
        await self._ring.find([wanted], fetch=False)
        keys = self._ring.at_hand(wanted)
        if keys is not None:
            return keys
        self._limiter.hit_address("key_query", address)
        return (await self._ring.find([wanted])).get(wanted.server, ())

    def _credentials(self, headers: Sequence[str]) -> list[Credentials]:
        """What the headers say; at least one, all of one server. Raises `Unauthorized`."""
        if not headers:
            raise Unauthorized("Missing Authorization header")
        if len(headers) > x_matrix.MAX_HEADERS:
            raise Unauthorized("More signatures than one request needs")
        credentials = [x_matrix.parse(header) for header in headers]
        if len({each.origin for each in credentials}) > 1:
            raise Unauthorized("The request claims to be of several servers")
        if credentials[0].origin == self._server_name:
            raise Unauthorized("The request claims to be of this server")
        for each in credentials:
            # spec: #request-authentication: a destination that is another's is refused; servers before 1.3 did not say one
            if each.destination not in {None, self._server_name}:
                raise Unauthorized("The request is meant for another server")
        return credentials


class _Signed:
    """What was signed, as one of the signers may have written it."""

    def __init__(self, method: str, uri: str, destination: ServerName) -> None:
        self._method = method
        self._uri = uri
        self._destination = destination

    def check(self, credentials: Sequence[Credentials], keys: dict[str, KeyRecord], body: bytes) -> None:
        """Signatures with keys that are not known are passed over; at least one must be right and none wrong. Raises
        `Unauthorized`.
        """
        good = 0
        for each in credentials:
            key = keys.get(each.key_id)
            if key is None:
                continue
            # Nearly everybody sends the very bytes that were signed; who does not is read and written down anew.
            if not self._matches(each, key, body or None):
                content = _canonical(body) if body else None
                if content == (body or None) or not self._matches(each, key, content):
                    raise Unauthorized("The signature of the request does not match")
            good += 1
        if not good:
            raise Unauthorized(f"No key of {credentials[0].origin} is known that the request is signed with")

    def _matches(self, credentials: Credentials, key: KeyRecord, content: bytes | None) -> bool:
        # spec: #request-authentication: the destination is signed whether the header names it or not
        try:
            data = x_matrix.signed_bytes(
                self._method, self._uri, credentials.origin, self._destination, content
            )
            verify_bytes(data, credentials.signature, key.key_id, key.public_key)
        except (InvalidSignature, ValueError):
            return False
        return True


def _canonical(body: bytes) -> bytes:
    try:
        check_work(body)
        return canonical_json.encode(json.loads(body))
    except (ValueError, MatrixError):
        raise Unauthorized("The body is not what was signed: it is no JSON") from None
