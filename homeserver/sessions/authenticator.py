"""From an access token to the requester, without the database for whoever was here lately.

Owns `Sessions`, the projection of tokens in use, and `TokenAuthenticator`, which web asks on every request.

spec: client-server-api/#using-access-tokens, #soft-logout, application-service-api/#identity-assertion
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.log.entries import Entry, Position
from homeserver.matrix.errors import UnknownToken, UserDeactivated, UserLocked
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.clock import Clock
from homeserver.sessions import store
from homeserver.sessions.appservices import AppserviceSessions
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.last_seen import LastSeen, Seen
from homeserver.sessions.tokens import MAX_TOKEN, digest_of
from homeserver.sessions.types import TokenRow, rate_of
from homeserver.storage.database import Database
from homeserver.web.auth import Requester
from homeserver.web.request import RequestInfo

SHARE = 2.0
SESSION_BYTES = 1_200
"""What a token takes in the cache, with its requester."""
NOTE_EVERY_MS = 30_000
"""How often a device that is seen all the time is noted as seen."""


class Session:
    """A token that was valid when it was looked up."""

    __slots__ = ("requester", "expires_ms", "noted_ms")

    def __init__(self, requester: Requester, expires_ms: int | None) -> None:
        self.requester = requester
        self.expires_ms = expires_ms
        self.noted_ms = 0


class Sessions:
    """Tokens in use, by their hash: a projection of the log, in a bounded cache."""

    def __init__(self, memory: MemoryBudget) -> None:
        self._by_digest: Cache[bytes, Session] = memory.cache("sessions", SHARE, gone=self._gone)
        self._by_user: dict[int, set[bytes]] = {}
        self._listeners: list[Callable[[int | None], None]] = []
        self.version = 0
        """Grows with every change: what was read before a change must not be remembered after it."""

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {SessionsChanged: self._changed}

    def reset(self) -> None:
        self.version += 1
        self._by_digest.clear()
        self._by_user.clear()
        for tell in self._listeners:
            tell(None)

    def on_change(self, tell: Callable[[int | None], None]) -> None:
        """Call with the user_nid of every change; None: of everyone. For what else is remembered of accounts."""
        self._listeners.append(tell)

    def is_current(self, requester: Requester) -> bool:
        """Whether the token is remembered: nothing has changed for it."""
        sessions = map(self._by_digest.get, self._by_user.get(requester.user_nid, ()))
        return any(each is not None and each.requester.token_nid == requester.token_nid for each in sessions)

    def get(self, digest: bytes) -> Session | None:
        return self._by_digest.get(digest)

    def add(self, digest: bytes, session: Session, version: int) -> None:
        """Remember, unless anything changed since `version` was read."""
        if version != self.version:
            return
        self._by_user.setdefault(session.requester.user_nid, set()).add(digest)
        self._by_digest.put(digest, session, SESSION_BYTES)

    def __len__(self) -> int:
        return len(self._by_digest)

    def _changed(self, _position: Position, entry: SessionsChanged) -> None:
        self.version += 1
        for digest in list(self._by_user.get(entry.user_nid, ())):
            session = self._by_digest.get(digest)
            if session is not None and entry.device_id in {None, session.requester.device_id}:
                self._by_digest.pop(digest)
                self._gone(digest, session)
        for tell in self._listeners:
            tell(entry.user_nid)

    def _gone(self, digest: bytes, session: Session) -> None:
        digests = self._by_user[session.requester.user_nid]
        digests.discard(digest)
        if not digests:
            del self._by_user[session.requester.user_nid]


class TokenAuthenticator:
    """Fulfils `homeserver.web.auth.Authenticator`."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        sessions: Sessions,
        last_seen: LastSeen,
        appservices: AppserviceSessions,
    ) -> None:
        self._db = db
        self._clock = clock
        self._sessions = sessions
        self._last_seen = last_seen
        self._appservices = appservices

    def cached(self, token: str, info: RequestInfo) -> Requester | None:
        digest = digest_of(token)
        session = self._sessions.get(digest)
        if session is None:
            return self._appservices.cached(token, info)
        now_ms = self._clock.now_ms()
        if session.expires_ms is not None and now_ms >= session.expires_ms:
            return None
        if now_ms - session.noted_ms >= NOTE_EVERY_MS:
            self._note(session, info, now_ms)
        return session.requester

    async def authenticate(self, token: str, info: RequestInfo, *, allow_expired: bool = False) -> Requester:
        """See `Authenticator.authenticate`."""
        if self._appservices.knows(token):
            return await self._appservices.authenticate(token, info)
        if len(token) > MAX_TOKEN:
            raise UnknownToken("Unknown access token", soft_logout=False)
        digest = digest_of(token)
        version = self._sessions.version
        row = await self._find(digest)
        now_ms = self._clock.now_ms()
        if row.deactivated:
            raise UserDeactivated("This account has been deactivated")
        if row.expires_ms is not None and now_ms >= row.expires_ms:
            if allow_expired:
                return _requester(row)
            raise UnknownToken("This access token has expired", soft_logout=True)
        if row.fresh:
            await self._first_use(digest, now_ms)
        session = Session(_requester(row), row.expires_ms)
        self._sessions.add(digest, session, version)
        self._note(session, info, now_ms)
        return session.requester

    async def confirm(self, requester: Requester) -> None:
        """Whether somebody who has waited may still be answered; asks the database only if something has changed.

        Raises:
            UnknownToken: the session has ended.
            UserDeactivated, UserLocked: the account has, or is locked (spec: client-server-api/#account-locking).
        """
        known = self._appservices if requester.appservice_id is not None else self._sessions
        if known.is_current(requester):
            return
        async with self._db.read() as tx:
            standing = await store.find_standing(tx, requester.user_nid, requester.token_nid)
        if standing is None:
            raise UnknownToken("This session has ended", soft_logout=False)
        if standing.deactivated:
            raise UserDeactivated("This account has been deactivated")
        if standing.locked:
            raise UserLocked("This account is locked", soft_logout=True)

    async def _find(self, digest: bytes) -> TokenRow:
        async with self._db.read() as tx:
            row = await store.find_access_token(tx, digest)
        if row is None:
            raise UnknownToken("Unknown access token", soft_logout=False)
        return row

    async def _first_use(self, digest: bytes, now_ms: int) -> None:
        """The refresh token this one came from is of no more use. spec: #refreshing-access-tokens (AUTH-18)"""
        async with self._db.transaction() as tx:
            use = await store.find_use(tx, digest)
            if use is not None and await store.lock_device(tx, use[0], use[1]):
                # Another process may have been first, or a sibling's use may have ended this token.
                use = await store.find_use(tx, digest)
                if use is not None:
                    async with tx.pipeline(commit=True) as batch:
                        store.settle_first_use(batch, use, now_ms)
                    return
        await self._find(digest)

    def _note(self, session: Session, info: RequestInfo, now_ms: int) -> None:
        requester = session.requester
        if requester.device_id is not None:
            session.noted_ms = now_ms
            self._last_seen.note(
                requester.user_nid, requester.device_id, Seen(now_ms, info.ip, info.user_agent)
            )


def _requester(row: TokenRow) -> Requester:
    return Requester(
        user_id=row.user_id,
        user_nid=row.user_nid,
        device_id=row.device_id,
        token_nid=row.token_nid,
        is_guest=row.is_guest,
        is_admin=row.is_admin,
        suspended=row.suspended,
        locked=row.locked,
        rate_limited=row.rate_limited,
        rate=rate_of(row),
    )
