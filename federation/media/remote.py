"""Files of other servers, fetched from them.

spec: server-server-api/#content-repository (CHECKLIST MEDIA-16, FED-39)
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from aiohttp import hdrs

from federation.media import multipart
from federation.media.multipart import Malformed
from federation.ports import Ask, BadAnswer, Client, NotPermitted, Partners, RemoteError, RemoteFault
from homeserver.matrix.errors import Forbidden, MatrixError, NotFound, NotYetUploaded, TooLarge, Unavailable
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc
from homeserver.media.ports import RemoteFile
from homeserver.web.outbound import HttpRequest, Outbound, OutboundError, Purpose

OVERHEAD: Final = 256 * 1024
"""Bytes of an answer besides the file."""
_OLD: Final = frozenset(
    (status, errcode) for status in (400, 404, 405) for errcode in ("M_UNRECOGNIZED", "M_UNKNOWN")
)
"""What servers say that do not know the new endpoint; some, and proxies before them, without a word (`M_UNKNOWN`)."""
_PLAIN_NAME = re.compile(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', re.IGNORECASE)
_UTF8_NAME = re.compile(r"filename\*\s*=\s*utf-8''([^;\s]+)", re.IGNORECASE)


class RemoteFiles:
    """Fulfils `media.ports.RemoteMedia`. Keeps nothing in memory: what it fetches passes through in pieces."""

    def __init__(self, client: Client, outbound: Outbound, partners: Partners) -> None:
        self._client = client
        self._outbound = outbound
        self._partners = partners

    @contextlib.asynccontextmanager
    async def fetch(self, mxc: Mxc, *, timeout: float, max_bytes: int) -> AsyncIterator[RemoteFile]:
        """See the protocol."""
        server = ServerName(mxc.server_name)
        most = self._partners.admit_files(server, given=False)
        max_bytes = max_bytes if most is None else min(most, max_bytes)
        try:
            async with self._answer(server, mxc, timeout, max_bytes) as file:
                yield replace(file, pieces=self._counted(server, file.pieces))
        except RemoteFault as fault:
            raise _told(fault, max_bytes) from None
        except OutboundError as error:
            raise Unavailable(f"Where {server} says the file is, it cannot be had", status=502) from error
        except Malformed:
            raise Unavailable(f"{server} answers with what is no file", status=502) from None

    async def _counted(self, server: ServerName, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            yield piece
        self._partners.admit_size(server, size, given=False)

    @contextlib.asynccontextmanager
    async def _answer(
        self, server: ServerName, mxc: Mxc, timeout: float, max_bytes: int
    ) -> AsyncIterator[RemoteFile]:
        try:
            async with self._signed(server, mxc, timeout, max_bytes) as file:
                yield file
                return
        except RemoteError as error:
            if (error.status, error.errcode) not in _OLD:
                raise
        async with self._frozen(server, mxc, timeout, max_bytes) as file:
            yield file

    @contextlib.asynccontextmanager
    async def _signed(
        self, server: ServerName, mxc: Mxc, timeout: float, max_bytes: int
    ) -> AsyncIterator[RemoteFile]:
        """From the endpoint for other servers: the file, or where it is."""
        ask = Ask(
            method="GET",
            path=("_matrix", "federation", "v1", "media", "download", mxc.media_id),
            query=(("timeout_ms", str(int(timeout * 1000))),),
            timeout=timeout,
            max_bytes=max_bytes + OVERHEAD,
            long_retry=False,
        )
        async with self._client.stream(server, ask) as answer:
            part = await multipart.second_part(answer.content_type, answer.pieces)
            location = part.headers.get("location")
            if location is None:
                yield _file(part.headers, _bounded(part.pieces, max_bytes))
                return
        async with self._redirected(location, timeout, max_bytes) as file:
            yield file

    @contextlib.asynccontextmanager
    async def _redirected(self, location: str, timeout: float, max_bytes: int) -> AsyncIterator[RemoteFile]:
        """From wherever else it lies: addresses are checked as of all that is asked, and it leads nowhere further."""
        request = HttpRequest(
            method="GET",
            url=location,
            headers={hdrs.ACCEPT_ENCODING: "identity"},
            max_bytes=max_bytes,
            timeout=timeout,
            packed=True,
        )
        async with self._outbound.exchange(Purpose.FEDERATION, request) as response:
            coding = response.headers.get(hdrs.CONTENT_ENCODING, "identity")
            if response.status != 200 or coding.lower() != "identity":
                raise Malformed(f"status {response.status}, content coding {coding[:20]}")
            headers = {name.lower(): value for name, value in response.headers.items()}
            yield _file(headers, _bounded(response.content.iter_any(), max_bytes))

    @contextlib.asynccontextmanager
    async def _frozen(
        self, server: ServerName, mxc: Mxc, timeout: float, max_bytes: int
    ) -> AsyncIterator[RemoteFile]:
        """From the endpoint of before files were for those who log in. spec: op:getContent (client-server)"""
        ask = Ask(
            method="GET",
            path=("_matrix", "media", "v3", "download", mxc.server_name, mxc.media_id),
            query=(("allow_remote", "false"), ("timeout_ms", str(int(timeout * 1000)))),
            timeout=timeout,
            max_bytes=max_bytes,
            long_retry=False,
        )
        async with self._client.stream(server, ask) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            yield _file(headers, _bounded(answer.pieces, max_bytes))


def _file(headers: Mapping[str, str], pieces: AsyncIterator[bytes]) -> RemoteFile:
    return RemoteFile(
        pieces, headers.get("content-type", ""), filename_in(headers.get("content-disposition", ""))
    )


def filename_in(told: str) -> str | None:
    """The name in a `Content-Disposition`; None if there is none. RFC 6266"""
    told = told[:4_096]
    if found := _UTF8_NAME.search(told):
        return unquote(found[1])
    if found := _PLAIN_NAME.search(told):
        return re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    return None


async def _bounded(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield piece


def _told(fault: RemoteFault, max_bytes: int) -> MatrixError:
    if isinstance(fault, RemoteError):
        if fault.errcode == "M_NOT_YET_UPLOADED":
            return NotYetUploaded("This file is not uploaded yet")
        if fault.errcode == "M_TOO_LARGE" or fault.status == 413:
            return _too_large(max_bytes)
        if fault.status in (403, 404):
            return NotFound("There is no such file")
    if isinstance(fault, NotPermitted):
        return Forbidden(f"This server does not speak with {fault.destination}")
    if isinstance(fault, BadAnswer) and "more than" in fault.problem:
        return _too_large(max_bytes)
    return Unavailable(f"{fault.destination} does not give the file", status=502)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The file has more than the {max_bytes} bytes accepted here", status=502)
