"""The stage of user-interactive authentication that asks for a proved e-mail address.

spec: client-server-api/#email-based-identity--homeserver (CHECKLIST AUTH-06)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.matrix.errors import BadJson, MissingParam, Unauthorized
from homeserver.threepids.service import STAGE, remember
from homeserver.threepids.types import Purpose
from homeserver.threepids.validation import ValidationService
from homeserver.uia.service import UiaRequest
from homeserver.uia.stages import BaseStage

PURPOSES: Mapping[str, Purpose] = {"register": "register", "changePassword": "reset"}
"""Operation -> what the address must have been proved for."""


class EmailStage(BaseStage):
    """Complete when the link in the mail was followed. Clients ask every few seconds whether it was."""

    type = STAGE
    guessable = False  # neither session id nor secret is short enough to be tried out

    def __init__(self, validation: ValidationService) -> None:
        self._validation = validation

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        """The proof, for `proof_in`."""
        credentials = auth.get("threepid_creds", auth.get("threepidCreds"))
        if credentials is None:
            raise MissingParam("Missing required key: auth.threepid_creds")
        if not isinstance(credentials, dict):
            raise BadJson("auth.threepid_creds: not an object")
        sid, secret = _text(credentials, "sid"), _text(credentials, "client_secret")
        purpose = PURPOSES.get(request.operation)
        proof = await self._validation.proof(sid, secret, purpose) if purpose else None
        if proof is None:
            raise Unauthorized("The link in the mail has not been followed yet")
        return remember(proof)


def _text(credentials: Mapping[str, Any], key: str) -> str:
    value = credentials.get(key)
    if value is None:
        raise MissingParam(f"Missing required key: auth.threepid_creds.{key}")
    if not isinstance(value, str):
        raise BadJson(f"auth.threepid_creds.{key}: not a string")
    return value
