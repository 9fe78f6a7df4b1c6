"""Whether somebody knows the password of an account: the one question behind login and the password stage."""

from __future__ import annotations

from homeserver.accounts import store
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.types import Account
from homeserver.matrix.errors import Forbidden, LimitExceeded, UserDeactivated
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.web.rate_limit import RateLimiter

FAILED = "login_failed"
WRONG = "Invalid username or password"
"""One sentence for a wrong password and for nobody: who exists is not for strangers to learn here."""


class PasswordCheck:
    """Checks passwords, counts failures, and replaces hashes that are out of date."""

    def __init__(self, db: Database, passwords: Passwords, limiter: RateLimiter) -> None:
        self._db = db
        self._passwords = passwords
        self._limiter = limiter

    async def check(self, user_id: UserId | None, password: str, label: str) -> Account:
        """The account whose password it is. A user id that is not found as written is tried in lower case. `label`: what
        was given as an identifier, see `Identifiers.label`.

        Raises:
            Forbidden: wrong password, no password, or nobody. (CHECKLIST AUTH-09)
            UserDeactivated: the account has ended.
            LimitExceeded: too many failures with this identifier, or too many passwords being checked.
        """
        account = await self.find(user_id)
        if self._limiter.would_refuse(FAILED, label):
            self._limiter.hit(FAILED, label)
        stored = account.password_hash if account else None
        if not await self._passwords.verify(password, stored):
            if account and account.deactivated:
                raise UserDeactivated("This account has been deactivated")
            self._limiter.hit(FAILED, label)
            raise Forbidden(WRONG)
        assert account is not None
        assert stored is not None
        if self._passwords.outdated(stored):
            await self._replace(account, stored, password)
        return account

    async def find(self, user_id: UserId | None) -> Account | None:
        """The account, also if its name was written with capitals."""
        if user_id is None:
            return None
        async with self._db.read() as tx:
            account = await store.find_account(tx, user_id)
            lowered = UserId(user_id.lower())
            if account is None and lowered != user_id:
                localpart, colon, server = user_id.partition(":")
                account = await store.find_account(tx, UserId(localpart.lower() + colon + server))
        return account

    async def _replace(self, account: Account, stored: str, password: str) -> None:
        try:
            renewed = await self._passwords.hash(password)
        except LimitExceeded:  # busy: the next login does it
            return
        async with self._db.transaction() as tx:
            await store.replace_hash(tx, account.user_nid, stored, renewed)
