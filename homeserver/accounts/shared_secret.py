"""Registration by whoever knows the shared secret, as Synapse's `register_new_matrix_user` and bridges speak it.

A nonce is its own proof of origin and age: any process recognises it without having stored it. It can be used once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, Literal

import msgspec

from homeserver.accounts.names import Names
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.types import NewAccount
from homeserver.config.registration import RegistrationSection
from homeserver.matrix.errors import Forbidden, InvalidParam, Unknown
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.logged_in import LoggedIn, logged_in
from homeserver.sessions.types import SessionRequest
from homeserver.web.endpoint import Auth, Body, endpoint

_PATH: Final = "/_synapse/admin/v1/register"
LIFETIME_MS: Final = 60_000


class Nonce(msgspec.Struct):
    nonce: str


class SharedSecretBody(msgspec.Struct):
    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: Literal["support", "bot"] | None = None
    displayname: str | None = None
    inhibit_login: bool = False


class SharedSecretApi:
    """Only of use where `registration.shared_secret` is configured."""

    def __init__(
        self,
        *,
        config: RegistrationSection,
        registration: RegistrationService,
        names: Names,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        secret = config.shared_secret
        self._secret = secret.get_secret_value().encode() if secret is not None else b""
        self._registration = registration
        self._names = names
        self._clock = clock
        self._entropy = entropy

    @endpoint("adminRegisterNonce", "GET", _PATH, auth=Auth.NONE, limit="default")
    async def nonce(self) -> Nonce:
        """Gives a nonce that is good for one registration within a minute."""
        self._check_enabled()
        rest = f"{self._clock.now_ms():x}.{self._entropy.token(16)}"
        return Nonce(nonce=f"{rest}.{self._seal(rest)}")

    @endpoint("adminRegister", "POST", _PATH, auth=Auth.NONE, limit="registration")
    async def register(self, body: Body[SharedSecretBody]) -> LoggedIn:
        """Makes an account for whoever can compute the MAC."""
        self._check_enabled()
        expires_ms = self._check_nonce(body.nonce)
        if not hmac.compare_digest(self._mac(body).encode(), body.mac.encode("utf-8", "replace")):
            raise Forbidden("HMAC incorrect")
        self._registration.check_password(body.password)
        user_id = self._names.wished(body.username, by_admin=True)
        made = await self._registration.register(
            NewAccount(
                user_id,
                is_admin=body.admin,
                user_type=body.user_type,
                displayname=body.displayname[:256] if body.displayname else None,
            ),
            password=body.password,
            session=None if body.inhibit_login else SessionRequest(),
            nonce=(body.nonce, expires_ms),
        )
        return logged_in(made.user_id, made.tokens)

    def _check_enabled(self) -> None:
        if not self._secret:
            raise Unknown("Shared secret registration is not enabled")

    def _check_nonce(self, nonce: str) -> int:
        """When it expires. Raises `InvalidParam` if it was not made here, or is too old."""
        rest, _, seal = nonce.rpartition(".")
        made, _, _ = rest.partition(".")
        if not hmac.compare_digest(self._seal(rest).encode(), seal.encode("utf-8", "replace")):
            raise InvalidParam("Unrecognised nonce")
        expires_ms = int(made, 16) + LIFETIME_MS
        if self._clock.now_ms() >= expires_ms:
            raise InvalidParam("Unrecognised nonce: it is too old")
        return expires_ms

    def _seal(self, rest: str) -> str:
        # Another purpose than the MAC below, so another key.
        key = hmac.digest(self._secret, b"atrium registration nonce", "sha256")
        return hmac.new(key, rest.encode("utf-8", "replace"), "sha256").hexdigest()[:32]

    def _mac(self, body: SharedSecretBody) -> str:
        parts: list[Any] = [body.nonce, body.username, body.password, "admin" if body.admin else "notadmin"]
        if body.user_type:
            parts.append(body.user_type)
        return hmac.new(self._secret, "\0".join(parts).encode("utf-8", "replace"), hashlib.sha1).hexdigest()
