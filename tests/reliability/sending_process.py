"""A process that sends to other servers, to be killed: `python sending_process.py DSN FOLDER PORT`.

Whatever server it sends to, requests go to that loopback port, with `destination` in the query.
"""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from federation.ports import Answer, Ask, RemoteError, Unreachable
from homeserver.matrix.ids import ServerName
from tests.support.graph import process
from tests.support.outbound import Others, sending


class Forwarding(Others):
    """A client without signatures."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        super().__init__()
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def ask(self, destination: ServerName, ask: Ask, answer: type[Any]) -> Any:
        assert isinstance(ask.content, msgspec.Raw)
        where = f"{self._url}/{ask.path[-1]}"
        query = {"destination": destination}
        try:
            async with self._session.put(where, params=query, data=bytes(ask.content)) as response:
                if response.status != 200:
                    raise RemoteError(destination, response.status, "M_UNKNOWN", "")
                return await response.json()
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(destination, type(error).__name__) from error

    def stream(self, destination: ServerName, ask: Ask) -> AbstractAsyncContextManager[Answer]:
        raise NotImplementedError


async def main(dsn: str, folder: Path, port: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        process(dsn, folder, alone=False) as here,
        sending(here, Forwarding(session, port)),
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
