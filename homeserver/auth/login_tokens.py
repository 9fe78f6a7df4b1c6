"""Tokens that let one more device in, once (CHECKLIST AUTH-12, AUTH-13).

spec: client-server-api/#token-based
"""

from __future__ import annotations

from homeserver.accounts import store as account_store
from homeserver.accounts.types import Account
from homeserver.auth import store
from homeserver.auth.tokens import LOGIN, MAX_TOKEN, digest_of, new_token
from homeserver.auth.uia import Verified
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database


class LoginTokens:
    """Makes and takes them."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def make(self, user_nid: int, lifetime_ms: int, proof: Verified) -> str:
        """Uses the proof up: each token asks for its own (CHECKLIST AUTH-13)."""
        token = new_token(self._entropy, LOGIN)
        async with self._db.transaction() as tx:
            await proof.consume(tx)
            await store.insert_login_token(tx, digest_of(token), user_nid, self._clock.now_ms() + lifetime_ms)
        return token

    async def take(self, token: str) -> Account | None:
        """Whose it is, once. None: it is unknown, used or too old."""
        async with self._db.transaction() as tx:
            user_nid = await store.take_login_token(tx, digest_of(token[:MAX_TOKEN]), self._clock.now_ms())
            return None if user_nid is None else await account_store.get_account(tx, user_nid)
