"""Mails for whoever proves an address on a page of this server, not in a client.

spec: client-server-api/#fallback (CHECKLIST AUTH-07)
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.matrix.errors import InvalidParam
from homeserver.runtime.clock import Entropy
from homeserver.threepids.addresses import canonical_email
from homeserver.threepids.stage import PURPOSES
from homeserver.threepids.types import ValidationRequest
from homeserver.threepids.validation import ValidationService


class FallbackMail:
    """Fulfils `ProofByMail` of user-interactive authentication."""

    def __init__(self, validation: ValidationService, entropy: Entropy) -> None:
        self._validation = validation
        self._entropy = entropy

    async def send(self, operation: str, address: str, ip: str) -> Mapping[str, str]:
        """Have a mail with a link sent. Returns `sid` and `client_secret` of the session it proves.

        Raises:
            InvalidParam: no address, or an operation that no address is proved for. Likewise what
                `ValidationService.request` raises.
        """
        purpose = PURPOSES.get(operation)
        if purpose is None:
            raise InvalidParam("No e-mail address is asked for here")
        secret = self._entropy.token(32)
        request = ValidationRequest(purpose, canonical_email(address), secret, 1, None)
        return {"sid": await self._validation.request(request, ip), "client_secret": secret}
