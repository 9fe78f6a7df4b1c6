"""Files of other servers: fetched when somebody asks, kept as copies.

spec: server-server-api/#content-repository (CHECKLIST MEDIA-16)
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from homeserver.matrix.errors import NotFound, Unavailable
from homeserver.matrix.mxc import Mxc
from homeserver.media import store
from homeserver.media.keeping import Finish, Keeping
from homeserver.media.last_used import LastUsed
from homeserver.media.names import clean_content_type, clean_filename
from homeserver.media.ports import BlobStoreAway, RemoteFile, RemoteMedia
from homeserver.media.service import MediaService
from homeserver.media.spool import Spool
from homeserver.media.types import Blob, NewMedia, Origin, Stored
from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

_log = structlog.get_logger("atrium.media")

AT_ONCE: Final = 32
"""Files of other servers that a process fetches at the same time."""
_GRACE: Final = 30.0
"""Seconds that a file may take beyond what its asker waits: who asks next finds it."""


class RemoteCopies:
    """Finds files wherever they are from. Fetches under way: one per file in this process."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        service: MediaService,
        spool: Spool,
        keeping: Keeping,
        used: LastUsed,
    ) -> None:
        self._db = db
        self._clock = clock
        self._service = service
        self._spool = spool
        self._keeping = keeping
        self._used = used
        self._remote: RemoteMedia | None = None
        self._fetches: dict[Mxc, asyncio.Task[None]] = {}

    def fetch_with(self, remote: RemoteMedia) -> None:
        """Who has the files of other servers; without it there are none."""
        self._remote = remote

    async def stop(self) -> None:
        """End what is under way."""
        for task in list(self._fetches.values()):
            task.cancel()
        await asyncio.gather(*self._fetches.values(), return_exceptions=True)

    async def find(self, mxc: Mxc, *, wait_ms: int, remote: bool, logged_in: bool) -> Stored:
        """A file to be delivered. Raises as `MediaService.find`; `TooLarge` and `Unavailable` with status 502 for what another
        server does. `remote`: whether to ask it; who is not logged in, and would not be given a new file, makes us ask nobody.
        """
        remote = remote and (logged_in or not self._service.limits.authenticated)
        if mxc.server_name == self._service.server_name:
            stored = await self._service.find(mxc, wait_ms=wait_ms, logged_in=logged_in)
        else:
            stored = await self._copy(mxc, wait_ms, remote=remote, logged_in=logged_in)
        self._used.note(stored.media.media_nid)
        return stored

    async def _copy(self, mxc: Mxc, wait_ms: int, *, remote: bool, logged_in: bool) -> Stored:
        for attempt in range(2):
            async with self._db.read() as tx:
                found = await store.find(tx, mxc.server_name, mxc.media_id)
            if found is not None:
                return await self._service.deliverable(found, logged_in=logged_in)
            if attempt == 0:
                await self._fetch_once(mxc, wait_ms, remote=remote)
        raise NotFound("There is no such file")

    async def _fetch_once(self, mxc: Mxc, wait_ms: int, *, remote: bool) -> None:
        """Who asks for what is being fetched waits for it, too."""
        if self._remote is None or not remote:
            raise NotFound("There is no such file, and this server does not ask others for it")
        task = self._fetches.get(mxc)
        if task is None:
            if len(self._fetches) >= AT_ONCE:
                raise Unavailable("Too many files of other servers are fetched at the moment")
            task = asyncio.create_task(self._fetch(self._remote, mxc, wait_ms / 1000 + _GRACE))
            self._fetches[mxc] = task
            task.add_done_callback(lambda _: self._fetches.pop(mxc, None))
        async with paused():
            await asyncio.shield(task)

    async def _fetch(self, remote: RemoteMedia, mxc: Mxc, timeout: float) -> None:
        limit = self._service.limits.max_upload
        try:
            async with (
                asyncio.timeout(timeout),
                remote.fetch(mxc, timeout=timeout, max_bytes=limit) as file,
                self._spool.receive(file.pieces) as received,
            ):
                await self._keeping.keep(received, self._finish(mxc, file))
        except _KeptBefore:
            return
        except TimeoutError:
            raise Unavailable("The other server does not give the file in time", status=504) from None
        except BlobStoreAway as error:
            _log.error("media_not_kept", error=str(error))  # the sentence says it all
            raise Unavailable("Files cannot be kept at the moment") from error

    def _finish(self, mxc: Mxc, file: RemoteFile) -> Finish:
        new = NewMedia(
            server_name=mxc.server_name,
            media_id=mxc.media_id,
            uploader_nid=None,
            content_type=clean_content_type(file.content_type),
            filename=clean_filename(file.filename),
            origin=Origin.REMOTE,
            authenticated=self._service.limits.authenticated,
        )

        async def finish(tx: Tx, blob: Blob) -> None:
            if not await store.insert(tx, new, blob.blob_nid, self._clock.now_ms()):
                raise _KeptBefore

        return finish


class _KeptBefore(Exception):
    """Another process was faster."""
