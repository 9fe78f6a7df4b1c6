"""Endpoints of profiles.

spec: client-server-api/#profiles
"""

from __future__ import annotations

from typing import Any

from homeserver.matrix.errors import Forbidden, GuestAccessForbidden
from homeserver.matrix.ids import UserId
from homeserver.profiles.fields import REMOVED, check_key, value_in
from homeserver.profiles.service import ProfileService
from homeserver.profiles.types import DISPLAYNAME
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Body, EmptyObject, Path, endpoint

_FIELD = (
    "/_matrix/client/{v}/profile/{userId}/{keyName}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{userId}/{keyName}",
)


class ProfilesApi:
    """Anyone's profile to read, one's own to change."""

    def __init__(self, profiles: ProfileService) -> None:
        self._profiles = profiles

    @endpoint(
        "getUserProfile", "GET", "/_matrix/client/{v}/profile/{userId}", auth=Auth.NONE, limit="default"
    )
    async def get_profile(self, user_id: Path[UserId]) -> dict[str, Any]:
        """A whole profile."""
        return dict(await self._profiles.look_up(user_id))

    @endpoint("getProfileField", "GET", _FIELD, auth=Auth.NONE, limit="default")
    async def get_field(self, user_id: Path[UserId], key_name: Path[str]) -> dict[str, Any]:
        """One field of a profile."""
        return dict(await self._profiles.look_up(user_id, key_name))

    @endpoint("setProfileField", "PUT", _FIELD, auth=Auth.GUEST_ALLOWED, limit="profile")
    async def set_field(
        self, requester: Requester, user_id: Path[UserId], key_name: Path[str], body: Body[dict[str, Any]]
    ) -> EmptyObject:
        """Sets one field of one's own profile."""
        _may_change(requester, user_id, key_name)
        value = value_in(body, key_name)
        await self._profiles.set_field(requester, key_name, value)
        return EmptyObject()

    @endpoint("deleteProfileField", "DELETE", _FIELD, auth=Auth.GUEST_ALLOWED, limit="profile")
    async def delete_field(
        self, requester: Requester, user_id: Path[UserId], key_name: Path[str]
    ) -> EmptyObject:
        """Removes one field of one's own profile."""
        _may_change(requester, user_id, key_name)
        await self._profiles.set_field(requester, key_name, REMOVED)
        return EmptyObject()


def _may_change(requester: Requester, user_id: UserId, key: str) -> None:
    if user_id != requester.user_id:
        raise Forbidden("You can only change your own profile")
    check_key(key)
    if requester.is_guest and key != DISPLAYNAME:  # spec: #guest-access (CHECKLIST GUEST-01)
        raise GuestAccessForbidden("Guests can change their display name only")
