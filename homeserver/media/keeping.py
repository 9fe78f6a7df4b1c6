"""Keeping what has come in, and removing what is kept: rows, references and blobs stay in step, whatever dies when.

A blob is written under a key of its own before a row refers to it, and its key is never used again when the last row is gone.
So a process that is killed leaves at most a blob without a row, which `upkeep.py` removes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from homeserver.jobs.service import Jobs
from homeserver.media import store
from homeserver.media.ports import BlobStore, BlobStoreAway
from homeserver.media.types import DELETE_BLOBS, Blob, DoomedBlobs, Received, Unkept
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

KEYS_PER_JOB: Final = 200
Finish = Callable[[Tx, Blob], Awaitable[None]]
"""Writes the row that refers to the blob, in the same transaction; raises to undo it."""


class Keeping:
    """What is kept of files: nothing is kept here itself."""

    def __init__(self, db: Database, jobs: Jobs, blobs: BlobStore, entropy: Entropy) -> None:
        self._db = db
        self._jobs = jobs
        self._blobs = blobs
        self._entropy = entropy

    async def keep(self, received: Received, finish: Finish) -> Blob:
        """Keep what came in, once whatever often it comes. Raises `BlobStoreAway` and what `finish` raises."""
        async with self._db.transaction() as tx:
            shared = await store.share_blob(tx, received.sha256)
            if shared is not None:
                await finish(tx, shared)
                return shared
        key = self.new_key(received)
        await self._blobs.put(received.path, key)
        kept: Blob | None = None
        try:
            async with self._db.transaction() as tx:
                blob = await store.insert_blob(tx, received.sha256, key, received.size)
                await finish(tx, blob)
            kept = blob
        finally:
            if kept is None or kept.key != key:
                await self._give_up(key)
        return kept

    def new_key(self, received: Received) -> str:
        """A key that was never used."""
        return f"{received.sha256.hex()}.{self._entropy.localpart(10)}"

    async def remove(self, nids: Collection[int]) -> list[Unkept]:
        """Remove files for good, but for those that are held; at most some thousand at once. What nothing refers to any more
        is deleted from the blob store by a job.
        """
        if not nids:
            return []
        async with self._db.transaction() as tx:
            gone = await store.delete(tx, nids)
            owned = [(each.uploader_nid, each.size) for each in gone if each.size is not None]
            await store.discharge(
                tx,
                [user for user, _ in owned if user is not None],
                [size for user, size in owned if user is not None],
            )
            keys = await store.release_blobs(
                tx, [each.blob_nid for each in gone if each.blob_nid is not None]
            )
            await self.doom(tx, keys)
        self.wake()
        return gone

    async def doom(self, tx: Tx, keys: list[str]) -> None:
        """Have blobs deleted once the transaction is over; say `wake` then."""
        if not keys:
            return
        async with tx.pipeline() as batch:
            for start in range(0, len(keys), KEYS_PER_JOB):
                self._jobs.defer(batch, DELETE_BLOBS, DoomedBlobs(keys[start : start + KEYS_PER_JOB]))

    def wake(self) -> None:
        """After the transaction that has doomed blobs."""
        self._jobs.wake()

    async def delete_blobs(self, doomed: DoomedBlobs) -> None:
        """The job. Raises `BlobStoreAway`: then it is tried again."""
        for key in doomed.keys:
            await self._blobs.delete(key)

    async def _give_up(self, key: str) -> None:
        try:
            await self._blobs.delete(key)
        except BlobStoreAway:
            return  # the reconciliation finds it
