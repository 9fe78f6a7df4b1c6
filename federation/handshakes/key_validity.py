"""Whether the key that an invite by address was signed with still counts: its identity server says so.

spec: client-server-api/#mroomthird_party_invite (`key_validity_url`), server-server-api/#third-party-invites (FED-41)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from yarl import URL

from homeserver.events.auth_rules.third_party_invite import IssuedKey, keys_that_fit
from homeserver.matrix.errors import Forbidden, Unavailable
from homeserver.web.outbound import HttpRequest, Outbound, OutboundError, Purpose

SECONDS: Final = 10.0
MAX_BYTES: Final = 64 * 1024
MAX_ASKED: Final = 3
"""Keys of one invite that are asked about; nearly always there is one that fits."""


class _Told(msgspec.Struct):
    valid: bool


class KeyValidity:
    """Asks whoever the invite names: addresses are checked as of all that is asked (`outbound.allow_private.identity`)."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def require(self, issued: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
        """Return if one of the keys that have signed counts, or none has signed: that is for the rules of the room to refuse.

        `issued`: the content of the m.room.third_party_invite. Raises `Forbidden` where all are revoked, `Unavailable` (502) where
        it cannot be found out.
        """
        keys = {key.text: key for key in keys_that_fit(issued, signed)}
        doubtful = False
        for key in [*keys.values()][:MAX_ASKED]:
            valid = await self._is_valid(key)
            if valid:
                return
            doubtful = doubtful or valid is None
        if doubtful:
            raise Unavailable("The identity server does not say whether its key still counts", status=502)
        if keys:
            raise Forbidden("The key that this invite was signed with is revoked")

    async def _is_valid(self, key: IssuedKey) -> bool | None:
        """None: nobody says."""
        if key.validity_url is None:
            return True
        try:
            url = URL(key.validity_url).update_query(public_key=key.text)
            request = HttpRequest(method="GET", url=str(url), max_bytes=MAX_BYTES, timeout=SECONDS)
            answer = await self._outbound.request(Purpose.IDENTITY, request)
            told = msgspec.json.decode(answer.body, type=_Told) if answer.status == 200 else None
        except (OutboundError, ValueError, RecursionError):
            return None
        return None if told is None else told.valid
