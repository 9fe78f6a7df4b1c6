"""Thumbnails, for those who are logged in and, frozen, for all.

spec: client-server-api/#thumbnails
"""

from __future__ import annotations

from typing import Literal

from homeserver.matrix.errors import InvalidParam, Unknown
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc
from homeserver.media.api import DEFAULT_WAIT_MS, address, wait_ms
from homeserver.media.delivery import deliver
from homeserver.media.ports import BlobStore
from homeserver.media.remote import RemoteCopies
from homeserver.media.thumbnails import Thumbnails, box_for
from homeserver.media.types import ThumbnailBox
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Path, Query, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response, Streamed

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}


class ThumbnailApi:
    """Smaller pictures."""

    def __init__(self, copies: RemoteCopies, thumbnails: Thumbnails, blobs: BlobStore) -> None:
        self._copies = copies
        self._thumbnails = thumbnails
        self._blobs = blobs

    @endpoint(
        "getContentThumbnailAuthed",
        "GET",
        "/_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}",
        auth=Auth.GUEST_ALLOWED,
    )
    async def thumbnail(  # noqa: PLR0913, PLR0917  # what the request has
        self,
        requester: Requester,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        width: Query[int],
        height: Query[int],
        method: Query[Literal["crop", "scale"]] = "scale",
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
        animated: Query[bool] = False,
    ) -> Response | Streamed:
        """Gives a thumbnail."""
        del requester
        box = _box(width, height, crop=method == "crop", animated=animated)
        mxc = address(server_name, media_id)
        return await self._give(info, mxc, box, wait_ms(timeout_ms))

    @endpoint(
        "getContentThumbnail",
        "GET",
        "/_matrix/media/{v}/thumbnail/{serverName}/{mediaId}",
        auth=Auth.NONE,
        limit="default",
    )
    async def frozen_thumbnail(  # noqa: PLR0913, PLR0917  # what the request has
        self,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        width: Query[int],
        height: Query[int],
        method: Query[Literal["crop", "scale"]] = "scale",
        allow_remote: Query[bool] = True,
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
        animated: Query[bool] = False,
    ) -> Response | Streamed:
        """Gives a thumbnail of a file from before the freeze."""
        box = _box(width, height, crop=method == "crop", animated=animated)
        mxc, wait = address(server_name, media_id), wait_ms(timeout_ms)
        return await self._give(info, mxc, box, wait, remote=allow_remote, logged_in=False)

    async def _give(
        self,
        info: RequestInfo,
        mxc: Mxc,
        box: ThumbnailBox,
        wait_ms: int,
        *,
        remote: bool = True,
        logged_in: bool = True,
    ) -> Response | Streamed:
        stored = await self._copies.find(mxc, wait_ms=wait_ms, remote=remote, logged_in=logged_in)
        if not stored.media.content_type.lower().startswith("image/"):
            raise Unknown("There is no thumbnail of this file: it is no picture")
        made = await self._thumbnails.find(stored, box)
        return deliver(
            self._blobs,
            info,
            made.key or stored.key,
            made.size,
            (made.key or stored.sha256.hex()).partition(".")[0],
            content_type=made.content_type,
            filename=f"thumbnail.{_EXTENSIONS[made.content_type]}",
        )


def _box(width: int, height: int, *, crop: bool, animated: bool) -> ThumbnailBox:
    # spec: CHECKLIST MEDIA-12
    if width < 1 or height < 1:
        raise InvalidParam("width, height: at least one pixel")
    return box_for(width, height, crop=crop, animated=animated)
