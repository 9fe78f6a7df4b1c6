"""Blobs in a bucket of any store that speaks S3. Needs the extra `[s3]` (obstore).

The bucket belongs to one server: what it does not know there, it deletes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from homeserver.media.ports import BlobMissing, BlobStoreAway, StoredKey
from homeserver.media.spool import PIECE, Spool
from homeserver.runtime.clock import Clock

_PAGE: Final = 1000
_PART: Final = 8 << 20
"""Bytes of a part of a large upload."""


class S3Blobs:
    """Fulfils `ports.BlobStore`. Keys stand in the bucket under a prefix."""

    def __init__(self, bucket: Any, prefix: str, spool: Spool, clock: Clock) -> None:
        """`bucket`: an `obstore.store.S3Store`."""
        self._bucket = bucket
        self._prefix = prefix
        self._spool = spool
        self._clock = clock

    async def put(self, path: Path, key: str) -> None:
        """See `BlobStore.put`."""
        import obstore

        with self._told():
            await obstore.put_async(
                self._bucket, self._prefix + key, path, chunk_size=_PART, max_concurrency=2
            )

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `BlobStore.read`."""
        import obstore

        with self._told(key):
            if start == end:
                await obstore.head_async(self._bucket, self._prefix + key)
                return
            answer = await obstore.get_async(
                self._bucket, self._prefix + key, options={"range": (start, end)}
            )
            async for piece in answer.stream(min_chunk_size=PIECE):
                yield bytes(piece)

    @contextlib.asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """See `BlobStore.as_file`."""
        import obstore

        with self._told(key):
            size = (await obstore.head_async(self._bucket, self._prefix + key))["size"]
        async with self._spool.receive(self.read(key, 0, size)) as received:
            yield received.path

    async def delete(self, key: str) -> None:
        """See `BlobStore.delete`."""
        import obstore

        with contextlib.suppress(BlobMissing), self._told(key):
            await obstore.delete_async(self._bucket, self._prefix + key)

    async def keys(self) -> AsyncIterator[list[StoredKey]]:
        """See `BlobStore.keys`."""
        import obstore

        now = self._clock.now_ms() / 1000
        with self._told():
            async for page in obstore.list(self._bucket, prefix=self._prefix or None, chunk_size=_PAGE):
                yield [
                    StoredKey(
                        each["path"].removeprefix(self._prefix),
                        each["size"],
                        now - each["last_modified"].timestamp(),
                    )
                    for each in page
                ]

    @contextlib.contextmanager
    def _told(self, key: str = "") -> Iterator[None]:
        """Say what the store says in our words."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise BlobMissing(key) from None
        except (BaseError, OSError, ValueError) as error:
            raise BlobStoreAway(f"the object store fails: {type(error).__name__}") from error
