"""What rooms need of others: declared here, fulfilled elsewhere, plugged in by `app.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from homeserver.graph.interning import RoomIdentity
from homeserver.matrix.ids import RoomAlias, RoomId, ServerName, UserId
from homeserver.web.auth import Requester


class Profiles(Protocol):
    """The profile feature."""

    async def membership_fields(self, user_id: UserId) -> Mapping[str, str]:
        """`displayname` and `avatar_url`, those that are set, for membership events: the user's own, and invites, which
        would else show a bare id until the user joins. Empty for users of other servers.
        """
        ...


class LocatedRoom(NamedTuple):
    """A room that an alias names."""

    room_id: RoomId
    servers: Sequence[ServerName]
    """Which may know the room, the likeliest first."""


class RemoteAliases(Protocol):
    """Fulfilled by federation."""

    async def locate(self, alias: RoomAlias) -> LocatedRoom:
        """What an alias of another server names. Raises `NotFound`; `Unavailable` (502) where the server cannot be asked."""
        ...


class Accounts(Protocol):
    """The account feature."""

    async def is_local_account(self, user_id: UserId) -> bool:
        """Whether the user exists here and is not deactivated."""
        ...


class RoomSettings(Protocol):
    """A feature that keeps what users have set for a room."""

    async def copy_room_settings(self, requester: Requester, old: RoomIdentity, new: RoomIdentity) -> None:
        """For the room that replaces it. May be called again; what was set for the new room already stays."""
        ...
