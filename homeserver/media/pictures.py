"""Keeping the pictures of web pages, if they are pictures."""

from __future__ import annotations

import structlog

from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc
from homeserver.media import store
from homeserver.media.keeping import Keeping
from homeserver.media.ports import BlobStoreAway
from homeserver.media.sandbox.pool import Sandbox
from homeserver.media.sandbox.tasks import Thumbnail, ThumbnailTask
from homeserver.media.scanning import Scanning
from homeserver.media.spool import Spool
from homeserver.media.thumbnails import SCALED, Bounds
from homeserver.media.types import Blob, NewMedia, Origin, Received
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

_log = structlog.get_logger("atrium.media")


class Pictures:
    """Makes files of this server of what web servers have given."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        *,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        server_name: ServerName,
        spool: Spool,
        keeping: Keeping,
        scanning: Scanning,
        sandbox: Sandbox,
        bounds: Bounds,
        authenticated: bool,
    ) -> None:
        """`authenticated`: these files are only for those who log in."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._server_name = server_name
        self._spool = spool
        self._keeping = keeping
        self._scanning = scanning
        self._sandbox = sandbox
        self._bounds = bounds
        self._authenticated = authenticated

    async def keep(
        self, received: Received, content_type: str, filename: str | None
    ) -> tuple[Mxc, Thumbnail] | None:
        """Keep a picture; None if it is none, too large or harmful. Raises `SandboxFailed`, `Unavailable`."""
        made = await self._look(received)
        if made is None:
            return None
        verdict = await self._scanning.before_keeping(received)
        if verdict is not None and verdict.found:
            return None
        new = NewMedia(
            server_name=self._server_name,
            media_id=self._entropy.letters(24),
            uploader_nid=None,
            content_type=content_type,
            filename=filename,
            origin=Origin.PREVIEW,
            authenticated=self._authenticated,
        )

        async def finish(tx: Tx, blob: Blob) -> None:
            await store.insert(tx, new, blob.blob_nid, self._clock.now_ms())
            await self._scanning.note(tx, blob, verdict)

        try:
            await self._keeping.keep(received, finish)
        except BlobStoreAway as error:
            _log.error("media_not_kept", error=str(error))  # the sentence says it all
            raise Unavailable("Files cannot be kept at the moment") from error
        return Mxc(self._server_name, new.media_id), made

    async def read(self, received: Received) -> bytes:
        """All of a small file."""
        return await self._spool.run(received.path.read_bytes)

    async def _look(self, received: Received) -> Thumbnail | None:
        bounds = self._bounds
        async with self._spool.path() as target:
            task = ThumbnailTask(
                source=str(received.path),
                target=str(target),
                width=SCALED[0][0],
                height=SCALED[0][1],
                crop=False,
                animated=False,
                max_pixels=bounds.max_pixels,
                max_frames=bounds.max_frames,
                seconds=bounds.seconds,
            )
            answer = await self._sandbox.run(task)
        return answer if isinstance(answer, Thumbnail) else None
