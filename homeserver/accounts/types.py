"""The account as the rest of the server sees it."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.ids import UserId


class Account(NamedTuple):
    """A local account; columns in the order of `store.ACCOUNT_COLUMNS`."""

    user_nid: int
    user_id: UserId
    password_hash: str | None
    created_ms: int
    deactivated_ms: int | None
    is_guest: bool
    is_admin: bool
    locked: bool
    suspended: bool
    erased: bool
    rate_limited: bool
    appservice_id: str | None
    user_type: str | None

    @property
    def deactivated(self) -> bool:
        return self.deactivated_ms is not None


class OwnRate(NamedTuple):
    """How often one user may do something, as an administrator said: acts per second, and at once. 0 and 0: without limit."""

    per_second: float
    burst: int


class NewAccount(NamedTuple):
    """What is known of an account that is about to be made."""

    user_id: UserId
    password_hash: str | None = None
    is_guest: bool = False
    is_admin: bool = False
    appservice_id: str | None = None
    user_type: str | None = None
    displayname: str | None = None
    """None: the local part of its id, which reads better than the whole. Guests have no name."""


class RegistrationToken(NamedTuple):
    """A token that permits registration. `uses_allowed` and `expires_ms` None: no bound."""

    token: str
    uses_allowed: int | None
    completed: int
    pending: int
    """Held by authentications under way."""
    expires_ms: int | None

    def valid(self, now_ms: int) -> bool:
        """Whether one more account may be made with it."""
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return False
        return self.uses_allowed is None or self.completed + self.pending < self.uses_allowed
