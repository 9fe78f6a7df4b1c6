"""Proving that an address is one's own: a mail with a link, somebody who follows it, and the session that knows.

A link alone changes nothing when it is merely loaded, as scanners of mails do: its page asks to confirm.

spec: client-server-api/#email-based-identity--homeserver, identity-service-api/#email-associations (AUTH-25 to AUTH-27)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from homeserver.matrix.errors import (
    InvalidParam,
    ThreepidDenied,
    ThreepidInUse,
    ThreepidMediumNotSupported,
    ThreepidNotFound,
)
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.tokens import MAX_TOKEN, digest_of
from homeserver.storage.database import Database
from homeserver.threepids import store
from homeserver.threepids.letters import Kind
from homeserver.threepids.outgoing import Letters
from homeserver.threepids.service import ThreepidService
from homeserver.threepids.types import EMAIL, Confirmed, Proof, Purpose, ValidationRequest
from homeserver.web.rate_limit import RateLimiter

MAX_LINK: Final = 2_048
_SECRET: Final = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")


class Rules(NamedTuple):
    """What the administrator decides."""

    link_lifetime_ms: int = 0
    hide_addresses: bool = False
    next_link_hosts: Sequence[str] = ()
    domains: Collection[str] = ()
    """Whose addresses may register, in lower case; none: all."""


class ValidationService:
    """Runs validation sessions for addresses. Keeps nothing in memory."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        limiter: RateLimiter,
        threepids: ThreepidService,
        letters: Letters,
        rules: Rules,
    ) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limiter = limiter
        self._threepids = threepids
        self._letters = letters
        self._rules = rules

    async def request(self, request: ValidationRequest, ip: str) -> str:
        """Have a mail with a link sent, unless one was for this attempt (AUTH-25). Returns the session's id.

        Raises:
            ThreepidMediumNotSupported: this server sends no mail.
            InvalidParam: secret, attempt or link.
            ThreepidDenied, ThreepidInUse, ThreepidNotFound: not with this address (AUTH-26).
            LimitExceeded, Unavailable: not now.
        """
        if not self._letters.possible:
            raise ThreepidMediumNotSupported("This server sends no mail")
        _check(request)
        kind = await self._kind(request)
        digest, now_ms = digest_of(request.client_secret), self._clock.now_ms()
        expires_ms = now_ms + self._rules.link_lifetime_ms
        async with self._db.transaction() as tx:
            sid = self._entropy.token(24)
            begun = await store.begin_session(tx, sid, request, EMAIL, digest, now_ms, expires_ms)
            if begun is None:
                return await store.find_session(tx, request, EMAIL, digest) or sid
            sid, proved = begun
            if proved:
                return sid
            self._limiter.hit_address("mail", ip)
            self._limiter.hit("mail", request.address)
            if kind is not None:
                await self._letters.order(tx, sid, kind)
        self._letters.begin()
        return sid

    async def look(self, token: str) -> Confirmed | None:
        """What a link is about, without following it. None: unknown, used or expired."""
        async with self._db.read() as tx:
            return await store.find_by_token(tx, digest_of(token[:MAX_TOKEN]), self._clock.now_ms())

    async def confirm(self, token: str) -> Confirmed | None:
        """Follow a link; following it again changes nothing. None as `look`."""
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + self._rules.link_lifetime_ms
        async with self._db.transaction() as tx:
            return await store.confirm(tx, digest_of(token[:MAX_TOKEN]), now_ms, expires_ms)

    async def proof(self, sid: str, client_secret: str, purpose: Purpose) -> Proof | None:
        """Of a session whose link was followed; None if there is no such session, or nobody has yet."""
        async with self._db.read() as tx:
            return await store.find_proof(
                tx, sid, digest_of(client_secret[:MAX_TOKEN]), purpose, self._clock.now_ms()
            )

    def may_lead_to(self, link: str | None) -> bool:
        """Whether the page may show a link that a client has given: only to where the administrator said."""
        return link is not None and (urlsplit(link).hostname or "") in self._rules.next_link_hosts

    async def clean(self) -> None:
        """Throw away what has expired."""
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, self._clock.now_ms())

    async def _kind(self, request: ValidationRequest) -> Kind | None:
        """What to write; None: nothing, and not to say so."""
        hide, domains = self._rules.hide_addresses, self._rules.domains
        domain = request.address.rpartition("@")[2]
        if request.purpose == "register" and domains and domain not in domains:
            raise ThreepidDenied("Nobody can register here with an address of this domain")
        owner = await self._threepids.owner(request.address)
        if request.purpose == "reset":
            if owner is None and not hide:
                raise ThreepidNotFound("No account has this address")
            return None if owner is None else "reset"
        if owner is not None and not hide:
            raise ThreepidInUse("This address belongs to an account already")
        return request.purpose if owner is None else "known"


def _check(request: ValidationRequest) -> None:
    if not _SECRET.fullmatch(request.client_secret):
        raise InvalidParam("client_secret: 1 to 255 of the characters 0-9 a-z A-Z . = _ -")
    if not 0 <= request.send_attempt < 2**53:
        raise InvalidParam("send_attempt: not a number from 0 on")
    if request.next_link is not None and not _is_web_link(request.next_link):
        raise InvalidParam("next_link: not the address of a web page")


def _is_web_link(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return len(link) <= MAX_LINK and parts.scheme in {"http", "https"} and bool(parts.hostname)
