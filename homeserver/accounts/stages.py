"""The kinds of proof that only registration asks for: a registration token, agreement to the policies.

spec: client-server-api/#token-authenticated-registration, #terms-of-service-at-registration (CHECKLIST AUTH-23, AUTH-24)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from homeserver.accounts import store
from homeserver.config.registration import Policy
from homeserver.matrix.errors import Unauthorized
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.uia.service import UiaRequest
from homeserver.uia.stages import REGISTRATION_TOKEN, TERMS, BaseStage, text_of


class RegistrationTokenStage(BaseStage):
    """A token an administrator gave out. A use of it is held from here until the account is made."""

    type = REGISTRATION_TOKEN
    kept = True

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        del request
        token = text_of(auth, "token")
        async with self._db.read() as tx:
            found = await store.find_registration_token(tx, token, self._clock.now_ms())
        if found is None or not found.valid(self._clock.now_ms()):
            raise _bad_token()
        return token

    @override
    async def claim(self, tx: Tx, session: bytes, remembered: str) -> None:
        # Under the lock, so that two people who hold the same token with one use left do not both get it.
        if not await store.lock_registration_token(tx, remembered):
            raise _bad_token()
        now_ms = self._clock.now_ms()
        found = await store.find_registration_token(tx, remembered, now_ms, but=session)
        if found is None or not found.valid(now_ms):
            raise _bad_token()
        await store.hold_registration_token(tx, session, remembered)


class TermsStage(BaseStage):
    """Agreeing to the policies of this server."""

    type = TERMS

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies

    @override
    def params(self) -> Mapping[str, Any]:
        return {"policies": {name: _shown(policy) for name, policy in self._policies.items()}}

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        """JSON of [policy, version] pairs: what was shown when the person agreed."""
        del request, auth
        return msgspec.json.encode([[name, p.version] for name, p in self._policies.items()]).decode()


def _shown(policy: Policy) -> dict[str, Any]:
    texts = {language: {"name": t.name, "url": t.url} for language, t in policy.languages.items()}
    return {"version": policy.version, **texts}


def _bad_token() -> Unauthorized:
    return Unauthorized("Invalid registration token")
