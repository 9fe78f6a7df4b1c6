"""What accounts need from features above them; each is plugged in by `app.py`."""

from __future__ import annotations

from typing import Protocol

from homeserver.matrix.ids import UserId


class LeaveAllRooms(Protocol):
    """Fulfilled by rooms."""

    async def leave_all_rooms(self, user_id: UserId) -> None:
        """Leave every joined room and turn down every invite and knock. May be called again after a crash."""
        ...


class JoinFirstRooms(Protocol):
    """Fulfilled by rooms."""

    async def join_first_rooms(self, user_id: UserId) -> None:
        """Join the rooms every new account joins. May be called again after a crash."""
        ...


class ForgetUser(Protocol):
    """A feature that keeps data of a user that is no event: account data, filters, pushers, key backups."""

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """After a deactivation. May be called again after a crash."""
        ...
