"""Which user ids can be given to new accounts.

spec: appendices/#user-identifiers (CHECKLIST AUTH-20)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from homeserver.matrix.errors import Exclusive, InvalidUsername
from homeserver.matrix.ids import MAX_ID_BYTES, ServerName, UserId, is_new_localpart
from homeserver.runtime.clock import Entropy
from homeserver.sessions.ports import Appservices

HOOK_USERS: Final = "_hook_"
"""How the localparts of users begin that speak for incoming webhooks: nobody else gets one of these."""


class Names:
    """Names of this server. `reserved`: regular expressions of localparts nobody can register."""

    def __init__(
        self, server_name: ServerName, reserved: Sequence[str], appservices: Appservices, entropy: Entropy
    ) -> None:
        self.server_name = server_name
        self._reserved = [re.compile(pattern) for pattern in reserved]
        self._appservices = appservices
        self._entropy = entropy

    def wished(self, username: str, *, appservice: str | None = None, by_admin: bool = False) -> UserId:
        """The user id a wished-for name leads to: the same in lower case.

        `appservice` asks for itself; an administrator may give reserved names away.

        Raises:
            InvalidUsername: no user id can be made of it.
            Exclusive: it belongs to (another) application service.
        """
        localpart = username.lower()
        user_id = UserId(f"@{localpart}:{self.server_name}")
        if not is_new_localpart(localpart):
            raise InvalidUsername("User names consist of a-z, 0-9 and the signs . _ = - / +")
        if len(user_id) > MAX_ID_BYTES:
            raise InvalidUsername(f"User ID longer than {MAX_ID_BYTES} bytes")
        if localpart.startswith(HOOK_USERS):
            raise Exclusive("This user name is kept for incoming webhooks")
        owner = self._appservices.claimed_by(user_id)
        if owner is not None and owner != appservice and not by_admin:
            raise Exclusive("This user name belongs to an application service")
        if appservice is None and not by_admin and any(r.fullmatch(localpart) for r in self._reserved):
            raise InvalidUsername("This user name is reserved")
        return user_id

    def any(self) -> UserId:
        """For whoever does not care."""
        return UserId(f"@{self._entropy.localpart()}:{self.server_name}")

    def registration_token(self) -> str:
        """Short enough to be read aloud, long enough not to be guessed."""
        return self._entropy.letters(16)
