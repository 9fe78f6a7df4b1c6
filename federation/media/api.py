"""Endpoints that give our files to other servers.

spec: server-server-api/#content-repository (CHECKLIST FED-39)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Literal

from federation.ports import Partners
from homeserver.matrix.errors import InvalidParam, Unknown
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc, is_media_id
from homeserver.media.delivery import pieces_of
from homeserver.media.names import UNKNOWN_TYPE, disposition
from homeserver.media.ports import BlobStore
from homeserver.media.remote import RemoteCopies
from homeserver.media.thumbnails import Thumbnails, box_for
from homeserver.media.types import Stored
from homeserver.runtime.clock import Entropy
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.response import Streamed

_MEDIA: Final = "/_matrix/federation/v1/media"
DEFAULT_WAIT_MS: Final = 20_000
LONGEST_WAIT_MS: Final = 60_000


class MediaApi:
    """Files and thumbnails, as `multipart/mixed`."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        copies: RemoteCopies,
        thumbnails: Thumbnails,
        blobs: BlobStore,
        entropy: Entropy,
        server_name: ServerName,
        partners: Partners,
    ) -> None:
        self._partners = partners
        self._copies = copies
        self._thumbnails = thumbnails
        self._blobs = blobs
        self._entropy = entropy
        self._server_name = server_name

    @endpoint("getContent", "GET", f"{_MEDIA}/download/{{mediaId}}", auth=Auth.SERVER)
    async def download(
        self, origin: Origin, media_id: Path[str], timeout_ms: Query[int] = DEFAULT_WAIT_MS
    ) -> Streamed:
        """Gives a file of this server."""
        self._partners.admit_files(origin.server_name, given=True)
        stored = await self._find(media_id, timeout_ms)
        media = stored.media
        self._partners.admit_size(origin.server_name, stored.size, given=True)
        return self._answer(stored.key, stored.size, media.content_type, media.filename)

    @endpoint("getContentThumbnail", "GET", f"{_MEDIA}/thumbnail/{{mediaId}}", auth=Auth.SERVER)
    async def thumbnail(  # noqa: PLR0917  # what the request has
        self,
        origin: Origin,
        media_id: Path[str],
        width: Query[int],
        height: Query[int],
        method: Query[Literal["crop", "scale"]] = "scale",
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
        animated: Query[bool] = False,
    ) -> Streamed:
        """Gives a smaller picture of a file of this server."""
        self._partners.admit_files(origin.server_name, given=True)
        if width < 1 or height < 1:
            raise InvalidParam("width, height: at least one pixel")
        stored = await self._find(media_id, timeout_ms)
        if not stored.media.content_type.lower().startswith("image/"):
            raise Unknown("There is no thumbnail of this file: it is no picture")
        box = box_for(width, height, crop=method == "crop", animated=animated)
        made = await self._thumbnails.find(stored, box)
        self._partners.admit_size(origin.server_name, made.size, given=True)
        return self._answer(made.key or stored.key, made.size, made.content_type, None)

    async def _find(self, media_id: str, timeout_ms: int) -> Stored:
        if not is_media_id(media_id):
            raise InvalidParam(
                "mediaId: only letters of the English alphabet, digits, _ and - are in a media ID"
            )
        if timeout_ms < 0:
            raise InvalidParam("timeout_ms: less than nothing")
        mxc = Mxc(self._server_name, media_id)
        return await self._copies.find(
            mxc, wait_ms=min(timeout_ms, LONGEST_WAIT_MS), remote=False, logged_in=True
        )

    def _answer(self, key: str, size: int, content_type: str, filename: str | None) -> Streamed:
        boundary = self._entropy.letters(32)
        kind = content_type or UNKNOWN_TYPE
        head = (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n"
            f"--{boundary}\r\nContent-Type: {kind}\r\n"
            f"Content-Disposition: {disposition(kind, filename)}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        return Streamed(
            _parts(head, pieces_of(self._blobs, key, 0, size), tail),
            content_type=f"multipart/mixed; boundary={boundary}",
            length=len(head) + size + len(tail),
        )


async def _parts(head: bytes, pieces: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    try:
        first = await anext(pieces, b"")  # what cannot be read is found out before anything is sent
        yield head + first
        async for piece in pieces:
            yield piece
        yield tail
    finally:
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()
