"""Tokens by which a user proves to another service who they are, and nothing else.

spec: client-server-api/#openid (CHECKLIST OID-01)
"""

from __future__ import annotations

from homeserver.accounts import store
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.tokens import MAX_TOKEN, OPENID, digest_of, new_token
from homeserver.storage.database import Database

LIFETIME_SECONDS = 3600


class OpenIdTokens:
    """Makes them, and tells `federation` whose they are."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def make(self, user_nid: int) -> str:
        """Valid for `LIFETIME_SECONDS`."""
        token = new_token(self._entropy, OPENID)
        expires_ms = self._clock.now_ms() + LIFETIME_SECONDS * 1000
        async with self._db.transaction() as tx:
            await store.insert_openid_token(tx, digest_of(token), user_nid, expires_ms)
        return token

    async def user_of(self, token: str) -> UserId | None:
        """None: unknown, expired, or the account has ended. spec: server-server-api/#openid"""
        async with self._db.read() as tx:
            return await store.find_openid_user(tx, digest_of(token[:MAX_TOKEN]), self._clock.now_ms())
