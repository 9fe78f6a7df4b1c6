"""What stands between a server and its database in tests that take the database away."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Relay:
    """Forwards connections to a Unix or TCP address, until it is closed: then it refuses, and drops those it has.

    While it is held it forwards nothing, and says nothing: as a network that loses every packet.
    """

    target: dict[str, Any]
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _passes: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._passes.set()

    def hold(self) -> None:
        """Forward nothing, until `release`."""
        self._passes.clear()

    def release(self) -> None:
        """Forward again, also what came meanwhile."""
        self._passes.set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._passes.set()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        with contextlib.suppress(OSError), contextlib.closing(writer):
            there = await self._connect()
            self._open |= {writer, there[1]}
            try:
                await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
            finally:
                self._open -= {writer, there[1]}

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self.target["host"]), int(self.target.get("port", 5432))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
