"""What comes in lies here until it is whole: a folder of temporary files, written and hashed in threads.

What a process leaves behind when it is killed is removed by the reconciliation (`upkeep.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Final, TypeVar

import structlog

from homeserver.matrix.errors import Unavailable
from homeserver.media.types import Received
from homeserver.runtime.clock import Entropy

T = TypeVar("T")
_log = structlog.get_logger("atrium.media")

THREADS: Final = 4
"""Of a process, for disks."""
PIECE: Final = 256 * 1024
"""Bytes that are written or read at once."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """The folder, and the threads that touch disks. Call `close` when done."""

    def __init__(self, folder: Path, entropy: Entropy) -> None:
        self.folder = folder
        self._entropy = entropy
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="media")

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Call something that waits for a disk, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(call, *args))

    @contextlib.asynccontextmanager
    async def path(self) -> AsyncIterator[Path]:
        """The name of a file that does not exist yet; what is there when the block ends is removed."""
        path = self.folder / self._entropy.letters(24)
        try:
            yield path
        finally:
            await asyncio.shield(self.run(_remove, path))

    @contextlib.asynccontextmanager
    async def receive(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[Received]:
        """Write a body down; it lasts when the block begins. Raises `Unavailable` where there is no room, and what the body
        raises.
        """
        async with self.path() as path:
            try:
                received = await self._write(path, pieces)
            except OSError as error:
                _log.error("media_not_written", error=os.strerror(error.errno or 0))  # it says it all
                if error.errno in _FULL:
                    raise Unavailable("There is no room for files at the moment", status=507) from error
                raise Unavailable("Files cannot be kept at the moment") from error
            yield received

    async def _write(self, path: Path, pieces: AsyncIterable[bytes]) -> Received:
        file = await self.run(_create, path)
        digest, size = hashlib.sha256(), 0
        waiting: list[bytes] = []
        held = 0

        def write(data: list[bytes]) -> None:
            for piece in data:
                digest.update(piece)
                file.write(piece)

        try:
            async for piece in pieces:
                waiting.append(piece)
                held += len(piece)
                size += len(piece)
                if held >= PIECE:
                    taken, waiting, held = waiting, [], 0
                    await self.run(write, taken)
            await self.run(write, waiting)
            await self.run(_sync, file)
        finally:
            await asyncio.shield(self.run(file.close))
        return Received(path, digest.digest(), size)


def _create(path: Path) -> FileIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileIO(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync(file: FileIO) -> None:
    os.fsync(file.fileno())


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
