"""Hashing and checking passwords, off the event loop and with a bound on how much of it may wait.

Owns Argon2id (new hashes) and bcrypt (hashes that were imported, replaced at the next login).
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from homeserver.config.auth import PasswordHash, PasswordPolicy
from homeserver.matrix.errors import InvalidParam, LimitExceeded, WeakPassword

T = TypeVar("T")

MAX_PASSWORD = 1024
"""Characters. Longer ones are a way to keep the server busy, not safer."""
_BCRYPT_BYTES = 72
_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2y$")


MAX_WAITING = 200
"""Requests that may wait for their password to be hashed; beyond, they are told to come back."""


class Passwords:
    """Makes and checks hashes. Call `close` when done."""

    def __init__(self, cost: PasswordHash, policy: PasswordPolicy, *, imported_pepper: str = "") -> None:
        """`imported_pepper`: Synapse's `password_config.pepper`, where its bcrypt hashes were imported."""
        self._policy = policy
        self._imported_pepper = imported_pepper
        self._hasher = PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory // 1024,
            parallelism=cost.parallelism,
            type=Type.ID,
        )
        self._threads = ThreadPoolExecutor(cost.concurrent, thread_name_prefix="password")
        self._waiting = 0
        # Checked when there is no such user, so that the answer takes as long as for one who exists.
        self._nobody: str | None = None

    def close(self) -> None:
        """Let the threads go; what still waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check_strength(self, password: str) -> None:
        """Raises `WeakPassword`; `InvalidParam` for one that is too long. spec: AUTH-28"""
        policy = self._policy
        if len(password) > MAX_PASSWORD:
            raise InvalidParam(f"A password has at most {MAX_PASSWORD} characters")
        if len(password) < policy.minimum_length:
            raise WeakPassword(f"A password has at least {policy.minimum_length} characters")
        demands: tuple[tuple[bool, Callable[[str], bool], str], ...] = (
            (policy.require_digit, str.isdigit, "digit"),
            (policy.require_symbol, lambda c: not c.isalnum(), "symbol"),
            (policy.require_lowercase, str.islower, "lower-case letter"),
            (policy.require_uppercase, str.isupper, "upper-case letter"),
        )
        for demanded, holds, what in demands:
            if demanded and not any(holds(c) for c in password):
                raise WeakPassword(f"A password needs at least one {what}")

    async def hash(self, password: str) -> str:
        """A PHC string. Raises `LimitExceeded` when too many wait."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether it is the password; takes as long for `stored=None`. Raises `LimitExceeded` when too many wait."""
        if len(password) > MAX_PASSWORD:
            return False
        return await self._run(lambda: self._verify(password, stored))

    def outdated(self, stored: str) -> bool:
        """Whether the password should be hashed anew, now that it is known: made with other costs, or imported."""
        if stored.startswith(_BCRYPT_PREFIXES):
            return True
        try:
            return self._hasher.check_needs_rehash(stored)
        except InvalidHashError:
            return True

    def _verify(self, password: str, stored: str | None) -> bool:
        password = _normal(password)
        if stored is None:
            if self._nobody is None:
                self._nobody = self._hasher.hash("")
            self._verify_argon2(password, self._nobody)
            return False
        if stored.startswith(_BCRYPT_PREFIXES):
            peppered = (password + self._imported_pepper).encode()[:_BCRYPT_BYTES]
            return self._verify_bcrypt(peppered, stored.encode())
        return self._verify_argon2(password, stored)

    @staticmethod
    def _verify_bcrypt(password: bytes, stored: bytes) -> bool:
        try:
            return bcrypt.checkpw(password, stored)
        except ValueError:  # U+0000 in the password, or no hash after all
            return False

    def _verify_argon2(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise LimitExceeded(2_000)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    # As Synapse does, whose hashes are imported: one person's two keyboards may compose the same letters differently.
    # Half a surrogate pair, which JSON can carry, has no UTF-8.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()
