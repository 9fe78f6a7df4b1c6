r"""ClamAV's clamd: a file is sent over its socket and judged.

The protocol: `zINSTREAM\0`, then pieces with their length (four bytes, network order) before them, then a length of zero; the
answer is `stream: OK`, `stream: NAME FOUND` or `… ERROR`, ended by NUL. See clamd(8).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from io import FileIO
from pathlib import Path
from typing import Final

from homeserver.media.ports import ScannerAway, Verdict
from homeserver.media.spool import PIECE, Spool

_LENGTH = struct.Struct("!I").pack
_LONGEST_ANSWER: Final = 4096
_FOUND = re.compile(r"stream: (?P<name>.+) FOUND", re.DOTALL)
_TOO_LARGE = "size limit exceeded"
_UNNAMED = "harmful"


class Clamd:
    """A clamd that is asked anew for each file. Fulfils `ports.Scanner`."""

    def __init__(
        self,
        address: str,
        spool: Spool,
        *,
        timeout: float,
        at_once: int = 4,
        deliver_too_large: bool = False,
    ) -> None:
        """`address`: the path of a Unix socket, or `host:port`. `timeout`: seconds for one file. `at_once`: files that are
        scanned at the same time. `deliver_too_large`: what clamd does not take because of its size counts as clean.
        """
        self._address = address
        self._spool = spool
        self._timeout = timeout
        self._slots = asyncio.Semaphore(at_once)
        self._deliver_too_large = deliver_too_large

    async def scan(self, path: Path) -> Verdict:
        """See `Scanner.scan`."""
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                answer = await self._ask(path)
        except TimeoutError:
            raise ScannerAway("the scanner does not answer in time") from None
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise ScannerAway(f"the scanner cannot be asked: {type(error).__name__}") from error
        return self._verdict(answer)

    async def _ask(self, path: Path) -> str:
        reader, writer = await self._connect()
        # It may say early that it takes no more, and hang up.
        answer = asyncio.create_task(self._answer(reader))
        try:
            with contextlib.suppress(ConnectionError):
                await self._send(writer, path, answer)
            return await answer
        finally:
            answer.cancel()
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, path: Path, answer: asyncio.Task[str]) -> None:
        file = await self._spool.run(_open, path)
        try:
            writer.write(b"zINSTREAM\0")
            while not answer.done() and (piece := await self._spool.run(file.read, PIECE)):
                writer.write(_LENGTH(len(piece)) + piece)
                await writer.drain()
            writer.write(_LENGTH(0))
            await writer.drain()
        finally:
            await self._spool.run(file.close)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.startswith("/"):
            return await asyncio.open_unix_connection(self._address, limit=_LONGEST_ANSWER)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port), limit=_LONGEST_ANSWER)

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> str:
        told = await reader.readuntil(b"\0")
        return told[:-1].decode("utf-8", "replace").strip()

    def _verdict(self, answer: str) -> Verdict:
        if answer == "stream: OK":
            return Verdict("")
        if (match := _FOUND.fullmatch(answer)) is not None:
            name = "".join(each for each in match["name"][:100] if each.isprintable())
            return Verdict(name or _UNNAMED)
        if _TOO_LARGE in answer and self._deliver_too_large:
            return Verdict("")
        raise ScannerAway(f"the scanner cannot tell: {answer[:100]!r}")


def _open(path: Path) -> FileIO:
    return FileIO(path, "rb")
