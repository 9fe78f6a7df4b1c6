"""Tokens that let one more device in, once (CHECKLIST AUTH-12, AUTH-13).

spec: client-server-api/#token-based
"""

from __future__ import annotations

from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions import store
from homeserver.sessions.ports import OneTimeProof
from homeserver.sessions.tokens import LOGIN, MAX_TOKEN, digest_of, new_token
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline


class LoginTokens:
    """Makes and takes them."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def make(self, user_nid: int, lifetime_ms: int, proof: OneTimeProof) -> str:
        """Uses the proof up: each token asks for its own (CHECKLIST AUTH-13)."""
        token = new_token(self._entropy, LOGIN)
        async with self._db.transaction() as tx:
            await proof.consume(tx)
            await store.insert_login_token(tx, digest_of(token), user_nid, self._clock.now_ms() + lifetime_ms)
        return token

    async def take(self, token: str) -> int | None:
        """The user_nid of whose it is, once. None: it is unknown, used or too old."""
        async with self._db.transaction() as tx:
            return await store.take_login_token(tx, digest_of(token[:MAX_TOKEN]), self._clock.now_ms())

    async def clean(self) -> None:
        """Delete those that are too old."""
        async with self._db.transaction() as tx:
            await store.delete_expired_login_tokens(tx, self._clock.now_ms())


def end_login_tokens(batch: Pipeline, user_nid: int) -> None:
    """Add to a transaction: after it, those the user has not used yet are good for nothing."""
    store.delete_login_tokens(batch, user_nid)
