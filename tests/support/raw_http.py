"""HTTP/1.1 by hand: sends exactly the bytes it is given, which no proper client would, and reads the answer properly."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_MAX_LINE = 1 << 20


class ConnectionEndedError(Exception):
    """The server closed the connection without (the rest of) an answer."""


@dataclass(frozen=True)
class RawAnswer:
    """Status, headers (lower-case names), and the body after the transfer coding was taken off."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RawConnection:
    """One connection to a server, opened again when the server has closed it."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection, if it is open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> RawAnswer:
        """A request with a correct frame around whatever target, headers and body are given.

        Raises ConnectionEndedError when the server hangs up instead of answering (also on a fresh connection).
        """
        given = {"Host": f"{self._address[0]}:{self._address[1]}", **(headers or {})}
        if body or method in ("POST", "PUT"):
            given.setdefault("Content-Length", str(len(body)))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in given.items()
        )
        message = head.encode("utf-8", "surrogateescape") + b"\r\n" + body
        if (
            self._streams is not None
        ):  # an idle connection may have been closed by now: that is no answer to anything
            try:
                return await self.send(message, head_only=method == "HEAD")
            except (ConnectionEndedError, ConnectionError):
                await self.close()
        return await self.send(message, head_only=method == "HEAD")

    async def send(self, message: bytes, *, head_only: bool = False) -> RawAnswer:
        """Sends these bytes and reads one answer. Raises ConnectionEndedError when there is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=_MAX_LINE)
        reader, writer = self._streams
        writer.write(message)
        try:
            answer = await _read_answer(reader, head_only=head_only)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.close()
            raise ConnectionEndedError(str(error)) from error
        if answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer


async def _read_answer(reader: asyncio.StreamReader, *, head_only: bool) -> RawAnswer:
    while True:
        status = int((await reader.readuntil(b"\r\n")).split(b" ", 2)[1])
        headers: dict[str, str] = {}
        while line := (await reader.readuntil(b"\r\n")).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status >= 200:  # 100 Continue is no answer yet
            break
    if head_only or status in (204, 304):
        return RawAnswer(status, headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        return RawAnswer(status, headers, await _read_chunks(reader))
    if "content-length" in headers:
        return RawAnswer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return RawAnswer(status, headers, await reader.read())


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return bytes(body)
