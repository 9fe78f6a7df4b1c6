"""The kinds of proof by their names, what most have in common, and the one that asks for nothing.

Each other kind is a class in the feature that can check it.

spec: client-server-api/#authentication-types (CHECKLIST AUTH-06)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.matrix.errors import BadJson, MissingParam
from homeserver.storage.tx import Tx
from homeserver.uia.service import UiaRequest

EMAIL: Final = "m.login.email.identity"
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


def text_of(auth: Mapping[str, Any], key: str) -> str:
    """A string of what a client sends for a stage. Raises `MissingParam`, `BadJson`."""
    value = auth.get(key)
    if value is None:
        raise MissingParam(f"Missing required key: auth.{key}")
    if not isinstance(value, str):
        raise BadJson(f"auth.{key}: not a string")
    return value
