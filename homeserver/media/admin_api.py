"""Files for administrators, under the paths and names that Synapse's tools know.

spec: Synapse's admin API (media, user media, statistics)
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.matrix.mxc import Mxc
from homeserver.media.admin import MediaAdmin
from homeserver.media.admin_store import MediaInfo
from homeserver.media.api import address
from homeserver.media.types import Origin, Unkept
from homeserver.web.auth import AdminRequester
from homeserver.web.endpoint import Auth, EmptyObject, Path, Query, endpoint

_ADMIN = "/_synapse/admin/v1"
_LEAST_MS = 30 * 365 * 86_400_000
"""A time before this is taken for seconds by mistake, and would delete nothing or, meant otherwise, everything."""
_MOST_LISTED = 1000

Order = Literal[
    "created_ts",
    "last_access_ts",
    "media_id",
    "media_length",
    "media_type",
    "quarantined_by",
    "safe_from_quarantine",
    "upload_name",
]


class Deleted(msgspec.Struct):
    deleted_media: list[str]
    total: int


class Purged(msgspec.Struct):
    deleted: int


class Quarantined(msgspec.Struct):
    num_quarantined: int


class RoomMedia(msgspec.Struct):
    local: list[str]
    remote: list[str]


class MediaAdminApi:
    """Listing, deleting, quarantining."""

    def __init__(self, admin: MediaAdmin) -> None:
        self._admin = admin

    # --- finding -----------------------------------------------------------------------------------------------------

    @endpoint("adminListUserMedia", "GET", f"{_ADMIN}/users/{{userId}}/media", auth=Auth.ADMIN)
    async def list_of_user(  # noqa: PLR0917  # what the request has
        self,
        admin: AdminRequester,
        user_id: Path[UserId],
        from_: Query[int] = 0,
        limit: Query[int] = 100,
        order_by: Query[Order] = "created_ts",
        dir: Query[Literal["f", "b"]] = "b",  # noqa: A002  # its name
    ) -> dict[str, Any]:
        """Lists the files of a user."""
        del admin
        start, limit = _page(from_, limit)
        media, total = await self._admin.list_of_user(
            user_id, order_by, descending=dir == "b", start=start, limit=limit
        )
        told: dict[str, Any] = {"media": [_user_media(each) for each in media], "total": total}
        if start + len(media) < total:
            told["next_token"] = start + len(media)
        return told

    @endpoint("adminListRoomMedia", "GET", f"{_ADMIN}/room/{{roomId}}/media", auth=Auth.ADMIN)
    async def list_of_room(self, admin: AdminRequester, room_id: Path[RoomId]) -> RoomMedia:
        """Lists the files that a room's newest events name in the clear."""
        del admin
        found = await self._admin.in_room(room_id)
        own = self._admin.server_name
        return RoomMedia(
            local=[str(each) for each in found if each.server_name == own],
            remote=[str(each) for each in found if each.server_name != own],
        )

    @endpoint("adminGetMedia", "GET", f"{_ADMIN}/media/{{serverName}}/{{mediaId}}", auth=Auth.ADMIN)
    async def info(
        self, admin: AdminRequester, server_name: Path[ServerName], media_id: Path[str]
    ) -> dict[str, Any]:
        """Tells what is known of a file."""
        del admin
        found = await self._admin.info(address(server_name, media_id))
        return {"media_info": _info(found)}

    @endpoint("adminMediaStatistics", "GET", f"{_ADMIN}/statistics/users/media", auth=Auth.ADMIN)
    async def statistics(
        self, admin: AdminRequester, from_: Query[int] = 0, limit: Query[int] = 100
    ) -> dict[str, Any]:
        """Tells whose files take most."""
        del admin
        start, limit = _page(from_, limit)
        users = await self._admin.largest_users(start, limit)
        told: dict[str, Any] = {
            "users": [
                {
                    "user_id": user_id,
                    "displayname": None,
                    "media_count": each.files,
                    "media_length": each.bytes,
                }
                for user_id, each in users
            ],
            "total": start + len(users),
        }
        if len(users) == limit:
            told["next_token"] = start + limit
        return told

    # --- quarantine and protection -----------------------------------------------------------------------------------

    @endpoint(
        "adminQuarantineMedia",
        "POST",
        f"{_ADMIN}/media/quarantine/{{serverName}}/{{mediaId}}",
        auth=Auth.ADMIN,
    )
    async def quarantine(
        self, admin: AdminRequester, server_name: Path[ServerName], media_id: Path[str]
    ) -> EmptyObject:
        """Gives a file to nobody any more."""
        mxc = address(server_name, media_id)
        await self._admin.info(mxc)
        await self._admin.quarantine([mxc], admin.user_id)
        return EmptyObject()

    @endpoint(
        "adminUnquarantineMedia",
        "POST",
        f"{_ADMIN}/media/unquarantine/{{serverName}}/{{mediaId}}",
        auth=Auth.ADMIN,
    )
    async def unquarantine(
        self, admin: AdminRequester, server_name: Path[ServerName], media_id: Path[str]
    ) -> EmptyObject:
        """Gives a file out again."""
        del admin
        await self._admin.release(address(server_name, media_id))
        return EmptyObject()

    @endpoint(
        "adminQuarantineRoomMedia",
        "POST",
        [f"{_ADMIN}/room/{{roomId}}/media/quarantine", f"{_ADMIN}/quarantine_media/{{roomId}}"],
        auth=Auth.ADMIN,
    )
    async def quarantine_of_room(self, admin: AdminRequester, room_id: Path[RoomId]) -> Quarantined:
        """Gives the files of a room to nobody any more."""
        found = await self._admin.in_room(room_id)
        return Quarantined(await self._admin.quarantine(found, admin.user_id))

    @endpoint(
        "adminQuarantineUserMedia", "POST", f"{_ADMIN}/user/{{userId}}/media/quarantine", auth=Auth.ADMIN
    )
    async def quarantine_of_user(self, admin: AdminRequester, user_id: Path[UserId]) -> Quarantined:
        """Gives the files of a user to nobody any more."""
        return Quarantined(await self._admin.quarantine_of_user(user_id, admin.user_id))

    @endpoint("adminProtectMedia", "POST", f"{_ADMIN}/media/protect/{{mediaId}}", auth=Auth.ADMIN)
    async def protect(self, admin: AdminRequester, media_id: Path[str]) -> EmptyObject:
        """Keeps a file of this server from being quarantined."""
        del admin
        await self._admin.protect(self._own(media_id), protected=True)
        return EmptyObject()

    @endpoint("adminUnprotectMedia", "POST", f"{_ADMIN}/media/unprotect/{{mediaId}}", auth=Auth.ADMIN)
    async def unprotect(self, admin: AdminRequester, media_id: Path[str]) -> EmptyObject:
        """Lets a file be quarantined again."""
        del admin
        await self._admin.protect(self._own(media_id), protected=False)
        return EmptyObject()

    # --- deleting ----------------------------------------------------------------------------------------------------

    @endpoint("adminDeleteMedia", "DELETE", f"{_ADMIN}/media/{{serverName}}/{{mediaId}}", auth=Auth.ADMIN)
    async def delete(
        self, admin: AdminRequester, server_name: Path[ServerName], media_id: Path[str]
    ) -> Deleted:
        """Deletes a file."""
        del admin
        return _deleted(await self._admin.delete(address(server_name, media_id)))

    @endpoint(
        "adminDeleteMediaByDateAndSize",
        "POST",
        f"{_ADMIN}/media/delete",
        auth=Auth.ADMIN,
    )
    async def delete_older(
        self,
        admin: AdminRequester,
        before_ts: Query[int],
        size_gt: Query[int] = 0,
        keep_profiles: Query[bool] = True,
    ) -> Deleted:
        """Deletes files of this server that nobody has looked at since, at most ten thousand at a time."""
        del admin
        gone = await self._admin.delete_older(
            Origin.LOCAL, _time(before_ts), larger=size_gt, keep_avatars=keep_profiles
        )
        return _deleted(gone)

    @endpoint("adminDeleteUserMedia", "DELETE", f"{_ADMIN}/users/{{userId}}/media", auth=Auth.ADMIN)
    async def delete_of_user(  # noqa: PLR0917  # what the request has
        self,
        admin: AdminRequester,
        user_id: Path[UserId],
        from_: Query[int] = 0,
        limit: Query[int] = 100,
        order_by: Query[Order] = "created_ts",
        dir: Query[Literal["f", "b"]] = "b",  # noqa: A002  # its name
    ) -> Deleted:
        """Deletes the files of a user that a list with the same parameters shows."""
        del admin
        start, limit = _page(from_, limit)
        gone = await self._admin.delete_page_of_user(
            user_id, order_by, descending=dir == "b", start=start, limit=limit
        )
        return _deleted(gone)

    @endpoint("adminPurgeRemoteMedia", "POST", f"{_ADMIN}/purge_media_cache", auth=Auth.ADMIN)
    async def purge_remote(self, admin: AdminRequester, before_ts: Query[int]) -> Purged:
        """Deletes copies of other servers' files that nobody has looked at since."""
        del admin
        return Purged(len(await self._admin.delete_older(Origin.REMOTE, _time(before_ts))))

    def _own(self, media_id: str) -> Mxc:
        return address(self._admin.server_name, media_id)


def _page(start: int, limit: int) -> tuple[int, int]:
    if start < 0 or limit < 1:
        raise InvalidParam("from, limit: less than nothing")
    return start, min(limit, _MOST_LISTED)


def _time(before_ts: int) -> int:
    if before_ts < _LEAST_MS:
        raise InvalidParam("before_ts: milliseconds since 1970 are expected")
    return before_ts


def _deleted(gone: list[Unkept]) -> Deleted:
    return Deleted(deleted_media=[each.media_id for each in gone], total=len(gone))


def _user_media(media: MediaInfo) -> dict[str, Any]:
    return {
        "created_ts": media.created_ms,
        "last_access_ts": media.last_used_ms,
        "media_id": media.media_id,
        "media_length": media.size,
        "media_type": media.content_type or "application/octet-stream",
        "quarantined_by": media.quarantined_by,
        "safe_from_quarantine": media.protected,
        "upload_name": media.filename,
    }


def _info(media: MediaInfo) -> dict[str, Any]:
    return {
        **_user_media(media),
        "media_origin": media.server_name if media.origin == Origin.REMOTE else None,
        "sha256": media.sha256.hex() if media.sha256 is not None else None,
        "held": media.held,
    }
