"""Addresses of names: the system's own lookup, in threads of its own.

The system's lookup knows what its administrator has said (hosts file, search order). But a name server that does not answer
holds a thread for many seconds, so those of everybody else may not be used for names that strangers have chosen.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from homeserver.runtime.clock import Clock

THREADS: Final = 16
FAILED_SECONDS: Final = 30.0
"""So long a name that has no address is not looked up again."""
MAX_REMEMBERED: Final = 5000
MAX_ADDRESSES: Final = 16
"""Of one name that are tried."""


class Addresses(AbstractResolver):
    """Looks addresses up for connections; what was found is remembered by the pool of connections. `close` when it ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dns")
        self._failed: dict[str, float] = {}

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See `AbstractResolver`. Raises `OSError`."""
        if self._clock.monotonic() < self._failed.get(host, 0.0):
            raise socket.gaierror(socket.EAI_NONAME, "the name had no address a moment ago")
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, _look_up, host, port, family
            )
        except OSError:
            self._failed.pop(host, None)
            self._failed[host] = self._clock.monotonic() + FAILED_SECONDS
            if len(self._failed) > MAX_REMEMBERED:
                del self._failed[next(iter(self._failed))]
            raise
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, address in found[:MAX_ADDRESSES]
        ]

    @override
    async def close(self) -> None:
        """See `AbstractResolver`."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[int, str]]:
    infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(kind), str(address[0])) for kind, _, _, _, address in infos))
