"""Profiles as values, and who is told of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from homeserver.matrix.ids import UserId

Profile = Mapping[str, Any]
"""Field -> JSON value. Read-only by contract: it may be shared."""

DISPLAYNAME = "displayname"
AVATAR_URL = "avatar_url"
TIME_ZONE = "m.tz"


class ProfilePropagation(Protocol):
    """Fulfilled by rooms."""

    async def profile_changed(self, user_id: UserId, profile: Profile) -> None:
        """Send a new join event with this name and avatar in every joined room whose last one has others.

        Called again after a crash, so rooms that are right already are passed over.
        spec: client-server-api/#events-on-change-of-profile-information (CHECKLIST USER-03)
        """
        ...


class UnknownUsers(Protocol):
    """Who may know a user of this server that has no account yet; fulfilled by `appservices`."""

    async def user(self, user_id: UserId) -> bool:
        """Whether there is an account by now. May take seconds; raises `MatrixError` where nobody answers."""
        ...


class RemoteProfiles(Protocol):
    """Fulfilled by federation."""

    async def fetch(self, user_id: UserId, field: str | None) -> Profile:
        """The profile of a user of another server, or one field of it. Raises `NotFound`, `Forbidden`."""
        ...
