"""Acting for a user when none of their requests is under way: with the rights that they have by then."""

from __future__ import annotations

from homeserver.matrix.errors import UserDeactivated, UserLocked, UserSuspended
from homeserver.sessions import store
from homeserver.sessions.types import rate_of
from homeserver.storage.database import Database
from homeserver.web.auth import Requester


class ActingUsers:
    """Makes the requester of what a user has ordered before."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def requester(
        self, user_nid: int, appservice_id: str | None = None, *, when_suspended: bool = False
    ) -> Requester:
        """Without a device: what is done is no request of any. `appservice_id`: which application service had ordered it.

        `when_suspended`: whether suspended users may do this. Raises `UserDeactivated`, `UserLocked`, `UserSuspended`.
        """
        async with self._db.read() as tx:
            row = await store.find_acting(tx, user_nid)
        if row is None or row.deactivated:
            raise UserDeactivated("This account has been deactivated")
        if row.locked:
            raise UserLocked("This account is locked")
        if row.suspended and not when_suspended:
            raise UserSuspended("This account is suspended")
        return Requester(
            user_id=row.user_id,
            user_nid=user_nid,
            is_guest=row.is_guest,
            is_admin=row.is_admin,
            appservice_id=appservice_id,
            suspended=row.suspended,
            rate_limited=row.rate_limited and appservice_id is None,
            rate=rate_of(row),
        )
