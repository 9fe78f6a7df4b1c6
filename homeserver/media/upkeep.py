"""What is done again and again for files: what is over goes, what is old goes, and what nobody refers to goes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from homeserver.media import store
from homeserver.media.admin import MediaAdmin
from homeserver.media.keeping import Keeping
from homeserver.media.ports import BlobStore
from homeserver.media.spool import Spool
from homeserver.media.types import Origin
from homeserver.runtime.clock import Clock
from homeserver.runtime.periodic import Periodic, every
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.media")

HOUR: Final = 3600.0
DAY_MS: Final = 86_400_000
BATCH: Final = 500
ORPHAN_AGE: Final = 86_400.0
"""Seconds after which a blob without a row was left behind: no upload takes so long."""
MANY_ORPHANS: Final = 100
"""Blobs without a row from which it matters whether they are most of the store."""
PREVIEW_KEPT_MS: Final = 7 * DAY_MS
"""How long the picture of a web page is kept after somebody last looked at it."""
_LONGEST: Final = 3000.0


class MediaUpkeep:
    """Removes files by their age, and blobs that no row knows."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        keeping: Keeping,
        admin: MediaAdmin,
        blobs: BlobStore,
        spool: Spool,
    ) -> None:
        self._db = db
        self._clock = clock
        self._keeping = keeping
        self._admin = admin
        self._blobs = blobs
        self._spool = spool

    def periodic(self, *, local_kept: float | None, remote_kept: float | None) -> list[Periodic]:
        """`local_kept`, `remote_kept`: seconds without use after which files go; None: never."""

        async def retain() -> None:
            now = self._clock.now_ms()
            await self.remove_expired()
            await self.remove_unused(Origin.PREVIEW, now - PREVIEW_KEPT_MS)
            if remote_kept is not None:
                await self.remove_unused(Origin.REMOTE, now - int(remote_kept * 1000))
            if local_kept is not None:
                await self.remove_unused(Origin.LOCAL, now - int(local_kept * 1000))

        return [
            every(HOUR, retain, name="media.retention", once_in_cluster=True, first=300.0, timeout=_LONGEST),
            every(
                24 * HOUR,
                self.reconcile,
                name="media.reconcile",
                once_in_cluster=True,
                first=HOUR,
                timeout=_LONGEST,
            ),
        ]

    async def remove_expired(self) -> int:
        """Addresses that nobody has uploaded to; a day after that is over, so that the answer until then says why."""
        before = self._clock.now_ms() - DAY_MS
        removed = 0
        while True:
            async with self._db.read() as tx:
                nids = await store.find_expired(tx, before, BATCH)
            gone = len(await self._keeping.remove(nids))
            if not gone:  # there are none, or somebody holds them
                return removed
            removed += gone

    async def remove_unused(self, origin: Origin, before_ms: int) -> int:
        """Files that nobody has looked at since, but for pictures that people have of themselves; how many they were."""
        keep = origin is Origin.LOCAL  # a picture is looked at by clients that have it already
        removed = len(await self._admin.delete_older(origin, before_ms, keep_avatars=keep))
        if removed:
            _log.info("media_removed_by_age", origin=origin.name.lower(), files=removed)
        return removed

    async def reconcile(self, *, even_most: bool = False) -> int:
        """Remove blobs that no row knows, and what was left while coming in; how many they were.

        Where most of the store is unknown, the store or the database is another's, or an old one was restored: then nothing is
        removed unless `even_most`.
        """
        left = await self._spool.run(_remove_old, self._spool.folder, self._clock.now_ms() / 1000)
        known = unknown = 0
        async for old, orphans in self._orphans():
            known, unknown = known + old - len(orphans), unknown + len(orphans)
        if unknown > max(known, MANY_ORPHANS) and not even_most:
            _log.error("media_orphans_are_most", blobs=unknown, known=known)
            return left
        removed = 0
        if unknown:
            async for _, orphans in self._orphans():
                for key in orphans:
                    await self._blobs.delete(key)
                removed += len(orphans)
        if left + removed:
            _log.info("media_orphans_removed", blobs=removed, incoming=left)
        return left + removed

    async def _orphans(self) -> AsyncIterator[tuple[int, list[str]]]:
        """In pages: how many blobs are old enough to have a row, and the keys of those that have none."""
        async for page in self._blobs.keys():
            old = [each.key for each in page if each.age > ORPHAN_AGE]
            if old:
                async with self._db.read() as tx:
                    known = await store.find_known_keys(tx, old)
                yield len(old), [key for key in old if key not in known]


def _remove_old(folder: Path, now: float) -> int:
    removed = 0
    if not folder.is_dir():
        return 0
    for entry in os.scandir(folder):
        if now - entry.stat(follow_symlinks=False).st_mtime > ORPHAN_AGE:
            Path(entry.path).unlink(missing_ok=True)
            removed += 1
    return removed
