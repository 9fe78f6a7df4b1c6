"""Uploading, and downloading for those who are logged in.

spec: client-server-api/#content-repository
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc, is_media_id
from homeserver.media.delivery import deliver
from homeserver.media.names import clean_filename
from homeserver.media.ports import BlobStore
from homeserver.media.remote import RemoteCopies
from homeserver.media.service import MediaService, Upload
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, EmptyObject, Path, Query, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response, Streamed
from homeserver.web.stream import BodyStream

DEFAULT_WAIT_MS: Final = 20_000
LONGEST_WAIT_MS: Final = 60_000
_UNBOUNDED: Final = 2**50
"""Bytes of body: `media.max_upload` says how many there may be."""
_CLIENT: Final = "/_matrix/client/v1/media"
_MEDIA: Final = "/_matrix/media/{v}"


class Uploaded(msgspec.Struct):
    content_uri: str


class Created(msgspec.Struct):
    content_uri: str
    unused_expires_at: int


class ContentConfig(msgspec.Struct):
    upload_size: int = msgspec.field(name="m.upload.size")


class UploadApi:
    """Files come in."""

    def __init__(self, service: MediaService) -> None:
        self._service = service

    @endpoint(
        "uploadContent",
        "POST",
        f"{_MEDIA}/upload",
        auth=Auth.USER,
        limit="upload",
        max_body=_UNBOUNDED,
    )
    async def upload(self, requester: Requester, body: BodyStream, filename: Query[str] = "") -> Uploaded:
        """Keeps a file."""
        body.narrow(self._service.limits.max_upload)
        mxc = await self._service.upload(requester, _upload(body, filename))
        return Uploaded(str(mxc))

    @endpoint("createContent", "POST", "/_matrix/media/v1/create", auth=Auth.USER, limit="upload")
    async def create(self, requester: Requester) -> Created:
        """Makes an address to upload to."""
        mxc, expires_ms = await self._service.create(requester)
        return Created(str(mxc), expires_ms)

    @endpoint(
        "uploadContentToMXC",
        "PUT",
        f"{_MEDIA}/upload/{{serverName}}/{{mediaId}}",
        auth=Auth.USER,
        limit="upload",
        max_body=_UNBOUNDED,
    )
    async def upload_to(
        self,
        requester: Requester,
        server_name: Path[ServerName],
        media_id: Path[str],
        body: BodyStream,
        filename: Query[str] = "",
    ) -> EmptyObject:
        """Keeps a file at an address that was made for it."""
        body.narrow(self._service.limits.max_upload)
        await self._service.upload_to(requester, address(server_name, media_id), _upload(body, filename))
        return EmptyObject()


class DownloadApi:
    """Files go out, to those who are logged in."""

    def __init__(self, service: MediaService, copies: RemoteCopies, blobs: BlobStore) -> None:
        self._service = service
        self._copies = copies
        self._blobs = blobs

    @endpoint("getConfigAuthed", "GET", f"{_CLIENT}/config", auth=Auth.GUEST_ALLOWED)
    @endpoint("getConfig", "GET", f"{_MEDIA}/config", auth=Auth.GUEST_ALLOWED)
    async def config(self, requester: Requester) -> ContentConfig:
        """Says how large a file may be."""
        del requester
        return ContentConfig(upload_size=self._service.limits.max_upload)

    @endpoint(
        "getContentAuthed", "GET", f"{_CLIENT}/download/{{serverName}}/{{mediaId}}", auth=Auth.GUEST_ALLOWED
    )
    async def download(
        self,
        requester: Requester,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
    ) -> Response | Streamed:
        """Gives a file."""
        del requester
        mxc = address(server_name, media_id)
        return await self._give(info, mxc, wait_ms(timeout_ms))

    @endpoint(
        "getContentOverrideNameAuthed",
        "GET",
        f"{_CLIENT}/download/{{serverName}}/{{mediaId}}/{{fileName}}",
        auth=Auth.GUEST_ALLOWED,
    )
    async def download_as(  # noqa: PLR0917  # what the request has
        self,
        requester: Requester,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        file_name: Path[str],
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
    ) -> Response | Streamed:
        """Gives a file under another name."""
        del requester
        mxc = address(server_name, media_id)
        return await self._give(info, mxc, wait_ms(timeout_ms), filename=file_name)

    @endpoint(
        "getContent", "GET", f"{_MEDIA}/download/{{serverName}}/{{mediaId}}", auth=Auth.NONE, limit="default"
    )
    async def frozen_download(
        self,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        allow_remote: Query[bool] = True,
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
    ) -> Response | Streamed:
        """Gives a file from before the freeze."""
        mxc = address(server_name, media_id)
        return await self._give(info, mxc, wait_ms(timeout_ms), remote=allow_remote, logged_in=False)

    @endpoint(
        "getContentOverrideName",
        "GET",
        f"{_MEDIA}/download/{{serverName}}/{{mediaId}}/{{fileName}}",
        auth=Auth.NONE,
        limit="default",
    )
    async def frozen_download_as(  # noqa: PLR0917  # what the request has
        self,
        info: RequestInfo,
        server_name: Path[ServerName],
        media_id: Path[str],
        file_name: Path[str],
        allow_remote: Query[bool] = True,
        timeout_ms: Query[int] = DEFAULT_WAIT_MS,
    ) -> Response | Streamed:
        """Gives a file from before the freeze under another name."""
        mxc = address(server_name, media_id)
        wait = wait_ms(timeout_ms)
        return await self._give(info, mxc, wait, filename=file_name, remote=allow_remote, logged_in=False)

    async def _give(
        self,
        info: RequestInfo,
        mxc: Mxc,
        wait_ms: int,
        *,
        filename: str | None = None,
        remote: bool = True,
        logged_in: bool = True,
    ) -> Response | Streamed:
        stored = await self._copies.find(mxc, wait_ms=wait_ms, remote=remote, logged_in=logged_in)
        media = stored.media
        return deliver(
            self._blobs,
            info,
            stored.key,
            stored.size,
            stored.sha256.hex(),
            content_type=media.content_type,
            filename=clean_filename(filename) or media.filename,
        )


def address(server_name: ServerName, media_id: str) -> Mxc:
    """Raises `InvalidParam` before anything is looked for. spec: client-server-api/#security-considerations-5"""
    if not is_media_id(media_id):
        raise InvalidParam("mediaId: only letters of the English alphabet, digits, _ and - are in a media ID")
    return Mxc(server_name, media_id)


def wait_ms(told: int) -> int:
    """Milliseconds to wait for a file that is not there yet. Raises `InvalidParam`."""
    if told < 0:
        raise InvalidParam("timeout_ms: less than nothing")
    return min(told, LONGEST_WAIT_MS)


def _upload(body: BodyStream, filename: str) -> Upload:
    return Upload(body, body.declared_length, body.content_type, filename or None)
