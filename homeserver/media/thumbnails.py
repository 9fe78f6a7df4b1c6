"""Thumbnails: which sizes there are, made once each when somebody asks.

spec: client-server-api/#thumbnails
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from homeserver.matrix.errors import NotFound, TooLarge, Unavailable, Unknown
from homeserver.media import thumbnail_store as store
from homeserver.media.keeping import Keeping
from homeserver.media.ports import BlobMissing, BlobStore, BlobStoreAway
from homeserver.media.sandbox.pool import Sandbox, SandboxFailed
from homeserver.media.sandbox.tasks import Failed, Thumbnail, ThumbnailTask
from homeserver.media.spool import PIECE, Spool
from homeserver.media.types import KeptThumbnail, Origin, Received, Stored, ThumbnailBox
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.media")

SCALED: Final = ((320, 240), (640, 480), (800, 600))
"""Boxes that are scaled into; larger ones are rounded up to `STEP`. spec: CHECKLIST MEDIA-10"""
STEP: Final = 320
LARGEST: Final = 32_000
"""Pixels of a side that may be asked for: no picture that is read has more."""
KEPT_EACH: Final = 24
"""Thumbnails of one blob; the oldest goes when another one is made."""
_FAULTS: Final = frozenset({"no_picture", "broken", "too_large"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is made thumbnails of."""

    max_source: int
    """Bytes."""
    max_pixels: int
    max_frames: int
    seconds: float
    """CPU time for one."""


class Thumbnails:
    """Makes thumbnails. Under way in this process: one of each kind."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        blobs: BlobStore,
        keeping: Keeping,
        spool: Spool,
        sandbox: Sandbox,
        bounds: Bounds,
    ) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs
        self._keeping = keeping
        self._spool = spool
        self._sandbox = sandbox
        self._bounds = bounds
        self._under_way: dict[tuple[int, ThumbnailBox], asyncio.Task[KeptThumbnail]] = {}

    async def find(self, stored: Stored, box: ThumbnailBox) -> KeptThumbnail:
        """One that fits. Raises `Unknown` (400) for what has none, `TooLarge` (413, or 502 for files of other servers),
        `Unavailable` for too many at the same time, `NotFound` where the file has just gone.
        """
        if stored.size > self._bounds.max_source:
            raise self._refusal(stored, "too_large")
        async with self._db.read() as tx:
            kept = await store.find(tx, stored.blob_nid, box)
            fault = None if kept is not None else await store.find_fault(tx, stored.blob_nid)
        if kept is not None:
            return kept
        if fault is not None:
            raise self._refusal(stored, fault)
        key = (stored.blob_nid, box)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._make(stored, box))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """End what is under way."""
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _done(self, key: tuple[int, ThumbnailBox], task: asyncio.Task[KeptThumbnail]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # who asked has been told, unless they have gone

    async def _make(self, stored: Stored, box: ThumbnailBox) -> KeptThumbnail:
        async with self._spool.path() as target:
            try:
                await self._spool.run(_make_folder, target)
                async with self._blobs.as_file(stored.key) as source:
                    answer = await self._sandbox.run(self._task(source, target, box))
            except BlobMissing:
                raise NotFound("There is no such file") from None
            except (BlobStoreAway, OSError) as error:
                _log.error("media_not_read", error=str(error))  # the sentence says it all
                raise Unavailable("Files cannot be read at the moment") from error
            except SandboxFailed:
                await self._note_fault(stored, "too_large")
                raise self._refusal(stored, "too_large") from None
            if isinstance(answer, Failed):
                await self._note_fault(stored, answer.reason)
                raise self._refusal(stored, answer.reason)
            assert isinstance(answer, Thumbnail)
            return await self._keep(stored, box, answer, target)

    def _task(self, source: Path, target: Path, box: ThumbnailBox) -> ThumbnailTask:
        bounds = self._bounds
        return ThumbnailTask(
            source=str(source),
            target=str(target),
            **box._asdict(),
            max_pixels=bounds.max_pixels,
            max_frames=bounds.max_frames,
            seconds=bounds.seconds,
        )

    async def _keep(
        self, stored: Stored, box: ThumbnailBox, answer: Thumbnail, target: Path
    ) -> KeptThumbnail:
        made = KeptThumbnail(None, answer.content_type, stored.size)
        if not answer.original:
            received = await self._spool.run(_received, target)
            key = self._keeping.new_key(received)
            try:
                await self._blobs.put(target, key)
            except BlobStoreAway as error:
                _log.error("media_not_kept", error=str(error))  # the sentence says it all
                raise Unavailable("Files cannot be kept at the moment") from error
            made = KeptThumbnail(key, answer.content_type, received.size)
        async with self._db.transaction() as tx:
            kept = await store.insert(tx, stored.blob_nid, box, made, self._clock.now_ms())
            over = await store.delete_oldest(tx, stored.blob_nid, KEPT_EACH)
            if made.key is not None and not kept:
                over.append(made.key)
            await self._keeping.doom(tx, over)
            if not kept:
                made = await store.find(tx, stored.blob_nid, box) or made
        if over:
            self._keeping.wake()
        if made.key in over:
            raise NotFound("There is no such file")
        return made

    async def _note_fault(self, stored: Stored, fault: str) -> None:
        async with self._db.transaction() as tx:
            await store.note_fault(tx, stored.blob_nid, fault)

    @staticmethod
    def _refusal(stored: Stored, fault: str) -> TooLarge | Unknown:
        assert fault in _FAULTS
        if fault == "too_large":
            # spec: op:getContentThumbnailAuthed, CHECKLIST MEDIA-08
            local = stored.media.origin == Origin.LOCAL
            return TooLarge("This file is too large for a thumbnail", status=413 if local else 502)
        return Unknown("There is no thumbnail of this file: it is no picture that can be read")


def box_for(width: int, height: int, *, crop: bool, animated: bool) -> ThumbnailBox:
    """The box that serves a wish: no smaller, and of few kinds. A cropped one has the ratio that was asked for."""
    width, height = min(width, LARGEST), min(height, LARGEST)
    if not crop:
        for standard in SCALED:
            if width <= standard[0] and height <= standard[1]:
                return ThumbnailBox(*standard, crop, animated)
        width, height = -(-width // STEP) * STEP, -(-height // STEP) * STEP
    elif width == height:
        width = height = next((side for side in (32, 96) if width <= side), width)
    return ThumbnailBox(width, height, crop, animated)


def _make_folder(target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _received(path: Path) -> Received:
    """What the sandbox has written: hashed, for us alone, and on the disk."""
    digest, size = hashlib.sha256(), 0
    path.chmod(0o600)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return Received(path, digest.digest(), size)
