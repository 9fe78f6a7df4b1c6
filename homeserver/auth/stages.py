"""The kinds of proof that user-interactive authentication can ask for, one class each.

spec: client-server-api/#authentication-types (CHECKLIST AUTH-06, AUTH-23, AUTH-24)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from typing_extensions import override

from homeserver.accounts import store as account_store
from homeserver.auth import store
from homeserver.auth.identifiers import Identifiers
from homeserver.auth.password_check import PasswordCheck
from homeserver.auth.uia import SomebodyElse, UiaRequest
from homeserver.config.registration import Policy
from homeserver.matrix.errors import BadJson, MissingParam, Unauthorized
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

DUMMY: Final = "m.login.dummy"
PASSWORD: Final = "m.login.password"  # noqa: S105  # the name of a stage
REGISTRATION_TOKEN: Final = "m.login.registration_token"  # noqa: S105  # likewise
TERMS: Final = "m.login.terms"


class BaseStage:
    """What most stages have in common."""

    type: str
    guessable = True
    kept = False

    def params(self) -> Mapping[str, Any] | None:
        return None

    async def claim(self, tx: Tx, session: bytes, remembered: str) -> None:
        """Nothing is held."""


class DummyStage(BaseStage):
    """Asks for nothing."""

    type = DUMMY

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        del request, auth
        return ""


class PasswordStage(BaseStage):
    """The password of the account."""

    type = PASSWORD

    def __init__(self, passwords: PasswordCheck, identifiers: Identifiers) -> None:
        self._passwords = passwords
        self._identifiers = identifiers

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        """The user's id. With a token in the request the identifier may be left out, or must mean the same user."""
        user_id = request.who.user_id if request.who else None
        label = (user_id or "").lower()
        if user_id is None or {"identifier", "user", "medium", "address"} & auth.keys():
            user_id = await self._identifiers.resolve(auth)
            label = self._identifiers.label(auth)
            if request.who is not None and (user_id or "").lower() != request.who.user_id.lower():
                raise SomebodyElse
        account = await self._passwords.check(user_id, _text(auth, "password"), label)
        if request.who is not None and account.user_nid != request.who.user_nid:
            raise SomebodyElse
        return account.user_id


class RegistrationTokenStage(BaseStage):
    """A token an administrator gave out. A use of it is held from here until the account is made."""

    type = REGISTRATION_TOKEN
    kept = True

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        del request
        token = _text(auth, "token")
        async with self._db.read() as tx:
            found = await account_store.find_registration_token(tx, token, self._clock.now_ms())
        if found is None or not found.valid(self._clock.now_ms()):
            raise _bad_token()
        return token

    @override
    async def claim(self, tx: Tx, session: bytes, remembered: str) -> None:
        # Under the lock, so that two people who hold the same token with one use left do not both get it.
        if not await account_store.lock_registration_token(tx, remembered):
            raise _bad_token()
        now_ms = self._clock.now_ms()
        found = await account_store.find_registration_token(tx, remembered, now_ms, but=session)
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


def _text(auth: Mapping[str, Any], key: str) -> str:
    value = auth.get(key)
    if value is None:
        raise MissingParam(f"Missing required key: auth.{key}")
    if not isinstance(value, str):
        raise BadJson(f"auth.{key}: not a string")
    return value


def _bad_token() -> Unauthorized:
    return Unauthorized("Invalid registration token")
