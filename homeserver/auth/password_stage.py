"""The kind of proof that asks for the password of the account.

spec: client-server-api/#password-based (CHECKLIST AUTH-06)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.accounts.password_check import PasswordCheck
from homeserver.auth.identifiers import Identifiers
from homeserver.uia.service import SomebodyElse, UiaRequest
from homeserver.uia.stages import PASSWORD, BaseStage, text_of


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
        account = await self._passwords.check(user_id, text_of(auth, "password"), label)
        if request.who is not None and account.user_nid != request.who.user_nid:
            raise SomebodyElse
        return account.user_id
