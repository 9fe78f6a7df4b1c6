"""Scanning files before anybody is given them, where a scanner is configured.

What is uploaded is scanned before the upload is answered. If the scanner is away then, the file is kept and scanned before its
first delivery; until the scanner answers, nobody is given it. What it finds is kept in quarantine, for administrators to see.
"""

from __future__ import annotations

import structlog

from homeserver.matrix.errors import Forbidden, Unavailable
from homeserver.media import store
from homeserver.media.ports import BlobMissing, BlobStore, BlobStoreAway, Scanner, ScannerAway, Verdict
from homeserver.media.types import Blob, Received, Stored
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

_log = structlog.get_logger("atrium.media")

QUARANTINED_BY = "scanner"
"""What stands in place of an administrator's name."""


class Scanning:
    """Asks the scanner, and remembers what it said."""

    def __init__(self, db: Database, blobs: BlobStore, scanner: Scanner | None) -> None:
        """`scanner`: None: nothing is scanned."""
        self._db = db
        self._blobs = blobs
        self._scanner = scanner

    async def before_keeping(self, received: Received) -> Verdict | None:
        """Of what was uploaded; None if nobody can tell now."""
        if self._scanner is None:
            return None
        try:
            return await self._scanner.scan(received.path)
        except ScannerAway as error:
            _log.warning("media_not_scanned", error=str(error))
            return None

    async def note(self, tx: Tx, blob: Blob, verdict: Verdict | None) -> None:
        """Write down what was found, in the transaction that keeps the file."""
        if verdict is not None:
            await store.note_verdict(tx, blob.blob_nid, verdict.found)
            if verdict.found:
                await store.quarantine_blob(tx, blob.blob_nid, QUARANTINED_BY)

    @staticmethod
    def refuse(verdict: Verdict | None, media_id: str) -> None:
        """Tell the uploader. Raises `Forbidden` if something was found."""
        if verdict is not None and verdict.found:
            _log.warning("media_infected", media_id=media_id, found=verdict.found[:100])
            raise _harmful(verdict.found)

    async def before_delivery(self, stored: Stored) -> None:
        """Raises `Forbidden` for what is harmful, `Unavailable` where that cannot be told now."""
        verdict = stored.media.verdict
        if verdict is None and self._scanner is not None:
            verdict = await self._scan(self._scanner, stored)
        if verdict:
            raise _harmful(verdict)

    async def _scan(self, scanner: Scanner, stored: Stored) -> str:
        try:
            async with self._blobs.as_file(stored.key) as path:
                verdict = await scanner.scan(path)
        except (ScannerAway, BlobStoreAway, BlobMissing) as error:
            _log.warning("media_not_scanned", error=str(error))
            raise Unavailable("This file cannot be scanned at the moment, and was not before") from error
        async with self._db.transaction() as tx:
            await self.note(tx, Blob(stored.blob_nid, stored.key), verdict)
        if verdict.found:
            _log.warning("media_infected", media_id=stored.media.media_id, found=verdict.found[:100])
        return verdict.found


def _harmful(found: str) -> Forbidden:
    return Forbidden(f"This file is harmful ({found[:100]}) and is not given to anybody")
