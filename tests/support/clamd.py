"""A clamd that speaks INSTREAM, for tests without ClamAV; and the file that every scanner finds."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

# In two parts, so that no scanner finds this file.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass
class FakeClamd:
    """Finds EICAR. `away`: hangs up; `most`: bytes it takes; `scanned`: how many files it has seen."""

    path: Path
    away: bool = False
    most: int = 1 << 20
    scanned: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            if self.away or await reader.readuntil(b"\0") != b"zINSTREAM\0":
                return
            data = b""
            while length := struct.unpack("!I", await reader.readexactly(4))[0]:
                data += await reader.readexactly(length)
                if len(data) > self.most:
                    writer.write(b"INSTREAM size limit exceeded. ERROR\0")
                    return
            self.scanned += 1
            writer.write(b"stream: Eicar-Signature FOUND\0" if EICAR in data else b"stream: OK\0")
            await writer.drain()


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[FakeClamd]:
    """One on a Unix socket."""
    clamd = FakeClamd(path)
    server = await asyncio.start_unix_server(clamd.answer, str(path))
    async with server:
        yield clamd
