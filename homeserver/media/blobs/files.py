"""Blobs in a folder: written beside, synced, moved into place, and the folder synced.

A reader never sees half a file, and what `put` has returned for survives a loss of power.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from homeserver.media.ports import BlobMissing, BlobStoreAway, StoredKey
from homeserver.media.spool import PIECE, Spool
from homeserver.runtime.clock import Clock

_PAGE: Final = 1000


class FileBlobs:
    """Fulfils `ports.BlobStore`. `abcd….xyz` lies in `ab/cd/`."""

    def __init__(self, folder: Path, spool: Spool, clock: Clock) -> None:
        """`folder`: on the same file system as the spool's."""
        self._folder = folder
        self._spool = spool
        self._clock = clock

    async def put(self, path: Path, key: str) -> None:
        """See `BlobStore.put`."""
        try:
            await self._spool.run(_move, path, self._place(key), self._folder)
        except OSError as error:
            raise BlobStoreAway(f"a file cannot be kept: {os.strerror(error.errno or 0)}") from error

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `BlobStore.read`."""
        descriptor = await self._open(key)
        try:
            while start < end:
                piece = await self._spool.run(os.pread, descriptor, min(PIECE, end - start), start)
                if not piece:
                    raise BlobStoreAway("a file is shorter than it was")
                start += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    @contextlib.asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """See `BlobStore.as_file`."""
        path = self._place(key)
        if not await self._spool.run(path.exists):
            raise BlobMissing(key)
        yield path

    async def delete(self, key: str) -> None:
        """See `BlobStore.delete`."""
        try:
            await self._spool.run(_unlink, self._place(key))
        except OSError as error:
            raise BlobStoreAway(f"a file cannot be deleted: {os.strerror(error.errno or 0)}") from error

    async def keys(self) -> AsyncIterator[list[StoredKey]]:
        """See `BlobStore.keys`."""
        found: list[StoredKey] = []
        for first in await self._spool.run(_names, self._folder):
            for second in await self._spool.run(_names, self._folder / first):
                found += await self._spool.run(
                    _entries, self._folder / first / second, self._clock.now_ms() / 1000
                )
                while len(found) >= _PAGE:
                    yield found[:_PAGE]
                    del found[:_PAGE]
        if found:
            yield found

    async def _open(self, key: str) -> int:
        try:
            return await self._spool.run(os.open, self._place(key), os.O_RDONLY)
        except FileNotFoundError:
            raise BlobMissing(key) from None
        except OSError as error:
            raise BlobStoreAway(f"a file cannot be read: {os.strerror(error.errno or 0)}") from error

    def _place(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:4] / key


def _move(path: Path, place: Path, root: Path) -> None:
    made = [folder for folder in (root, place.parent.parent, place.parent) if not folder.exists()]
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.rename(place)
    for folder in (place.parent, *(folder.parent for folder in made)):
        _sync_folder(folder)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    return []


def _entries(folder: Path, now: float) -> list[StoredKey]:
    return list(_stats(folder, now))


def _stats(folder: Path, now: float) -> Iterator[StoredKey]:
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat(follow_symlinks=False)
            yield StoredKey(entry.name, stat.st_size, now - stat.st_mtime)
