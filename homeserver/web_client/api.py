"""Endpoints of the web client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path as FilePath
from typing import Final

import msgspec

from homeserver.matrix.errors import NotFound, Unrecognized
from homeserver.runtime.cache import MemoryBudget
from homeserver.web.endpoint import Auth, Path, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response, Streamed
from homeserver.web_client.files import ClientFile, find_file

_INDEX: Final = "index.html"
_CONFIG: Final = "config.json"
_CONFIG_OF: Final = "config."
"""Element asks for `config.HOST.json` first."""
_HASHED: Final = ("bundles/", "assets/")
"""Folders in which a file's name changes with its content."""
_HEADERS: Final = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LATER: Final = "no-cache"  # ask each time whether it has changed
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class WebClientApi:
    """Hands out files of one folder, and the settings in place of the client's own."""

    def __init__(self, folder: FilePath | None, settings: Mapping[str, object], memory: MemoryBudget) -> None:
        """`folder`: with the client's index.html; None: there is no client here."""
        self._folder = folder
        self._settings = msgspec.json.encode(settings)
        self._compressed = memory.cache("web_client", 0.5)
        self._compressing = asyncio.Lock()

    @endpoint("getWebClient", "GET", "/web", auth=Auth.NONE)
    async def redirect(self) -> Response:
        """Relative addresses in its pages need the slash."""
        if self._folder is None:
            raise Unrecognized("This server hands out no web client")
        return Response(status=308, headers={"Location": "/web/"}, content_type="text/plain")

    @endpoint("getWebClientFile", "GET", "/web/{+path}", auth=Auth.NONE)
    async def file(self, path: Path[str], info: RequestInfo) -> Response | Streamed:
        """A file of the client."""
        if self._folder is None:
            raise Unrecognized("This server hands out no web client")
        path = path or _INDEX
        if path == _CONFIG or (path.startswith(_CONFIG_OF) and path.endswith(".json") and "/" not in path):
            return Response(body=self._settings, headers={**_HEADERS, "Cache-Control": _LATER})
        found = await asyncio.to_thread(find_file, self._folder, path)
        if found is None:
            raise _gone()
        kept = _FOR_EVER if path.startswith(_HASHED) else _LATER
        etag = f'W/"{found.tag}"'
        headers = {**_HEADERS, "Cache-Control": kept, "ETag": etag, "Vary": "Accept-Encoding"}
        if etag in info.headers.get("If-None-Match", ""):
            return Response(status=304, headers=headers)
        if found.can_be_compressed and "gzip" in info.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = await self._gzip(path, found)
            return Response(body=body, headers=headers, content_type=found.content_type)
        return Streamed(_read(found), content_type=found.content_type, length=found.size, headers=headers)

    async def _gzip(self, path: str, found: ClientFile) -> bytes:
        """Compressed once, one file at a time, however many ask."""
        async with self._compressing:
            kept: tuple[str, bytes] | None = self._compressed.get(path)
            if kept is not None and kept[0] == found.tag:
                return kept[1]
            try:
                body = await asyncio.to_thread(found.compressed)
            except OSError:
                raise _gone() from None
            self._compressed.put(path, (found.tag, body), len(body) + 500)
            return body


async def _read(found: ClientFile) -> AsyncIterator[bytes]:
    pieces = found.pieces()
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    except OSError:
        raise _gone() from None


def _gone() -> NotFound:
    return NotFound("The web client has no such file")
