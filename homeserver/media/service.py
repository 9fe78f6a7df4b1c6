"""Uploading files, and finding those that are to be delivered.

spec: client-server-api/#content-repository
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from homeserver.matrix.errors import (
    CannotOverwriteMedia,
    Forbidden,
    LimitExceeded,
    NotFound,
    NotYetUploaded,
    Unavailable,
)
from homeserver.matrix.ids import ServerName
from homeserver.matrix.mxc import Mxc
from homeserver.media import store
from homeserver.media.arrivals import Arrivals
from homeserver.media.keeping import Finish, Keeping
from homeserver.media.names import clean_content_type, clean_filename
from homeserver.media.ports import BlobStoreAway
from homeserver.media.scanning import Scanning
from homeserver.media.spool import Spool
from homeserver.media.types import Blob, Media, NewMedia, Origin, Received, Stored, charged
from homeserver.policy.gate import Gate
from homeserver.policy.types import Act, upload_act
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.web.requester import Requester

_log = structlog.get_logger("atrium.media")

AT_ONCE: Final = 8
"""Uploads of one person that one process takes at the same time."""
RETRY_MS: Final = 2_000
_NO_QUOTA: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the configuration allows."""

    max_upload: int
    """Bytes of a file."""
    quota: int | None
    """Bytes of all files of a person."""
    pending: int
    """Addresses without a file that a person may have."""
    pending_ms: int
    """How long such an address lasts."""
    authenticated: bool
    """New files are only for those who log in."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as its uploader tells of it; nothing of it is checked yet."""

    pieces: AsyncIterable[bytes]
    declared_length: int | None
    content_type: str
    filename: str | None


class MediaService:
    """Files of this server. `arrivals`, uploads under way: of this process."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        *,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        server_name: ServerName,
        limits: Limits,
        spool: Spool,
        keeping: Keeping,
        scanning: Scanning,
        gate: Gate,
    ) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self.server_name = server_name
        self.limits = limits
        self._spool = spool
        self._keeping = keeping
        self._scanning = scanning
        self._gate = gate
        self.arrivals = Arrivals(clock)
        self._uploading: defaultdict[int, int] = defaultdict(int)

    # --- uploading ---------------------------------------------------------------------------------------------------

    async def create(self, requester: Requester) -> tuple[Mxc, int]:
        """An address to upload to, and until when (ms). Raises `LimitExceeded` for too many. spec: op:createContent"""
        now = self._clock.now_ms()
        new = self._new(requester.user_nid, "", None)
        expires = now + self.limits.pending_ms
        async with self._db.transaction() as tx:
            waiting, first_over = await store.count_pending(tx, requester.user_nid, now)
            if waiting >= self.limits.pending:
                raise LimitExceeded(
                    max(first_over - now, 1), "Too many files of yours are waiting to be uploaded"
                )
            await store.insert_pending(tx, new, now, expires)
        return Mxc(self.server_name, new.media_id), expires

    async def upload(self, requester: Requester, upload: Upload) -> Mxc:
        """Keep a file. Raises what a policy check says, `Forbidden` for an exceeded quota or harmful content, `TooLarge`,
        `LimitExceeded`, `Unavailable`.
        spec: op:uploadContent
        """
        new = self._new(requester.user_nid, upload.content_type, upload.filename)

        async def finish(tx: Tx, blob: Blob) -> None:
            await store.insert(tx, new, blob.blob_nid, self._clock.now_ms())

        await self._take(requester, upload, new, finish)
        return Mxc(self.server_name, new.media_id)

    async def upload_to(self, requester: Requester, mxc: Mxc, upload: Upload) -> None:
        """Keep a file at an address that was made for it. Raises as `upload`, and `NotFound`, `Forbidden`,
        `CannotOverwriteMedia`. spec: op:uploadContentToMXC
        """
        async with self._db.read() as tx:
            pending = await store.find(tx, mxc.server_name, mxc.media_id)
        if pending is None or mxc.server_name != self.server_name or pending.origin != Origin.LOCAL:
            raise NotFound("There is no such address to upload to")
        if pending.uploader_nid != requester.user_nid:
            raise Forbidden("Only who made this address may upload to it")
        if pending.blob_nid is not None:
            raise CannotOverwriteMedia("Something was uploaded to this address already")
        if self._over(pending):
            raise NotFound("It is too late to upload to this address")
        new = self._new(requester.user_nid, upload.content_type, upload.filename, media_id=mxc.media_id)

        async def finish(tx: Tx, blob: Blob) -> None:
            if not await store.complete(tx, new, blob.blob_nid, self._clock.now_ms()):
                raise CannotOverwriteMedia("Something was uploaded to this address already")

        await self._take(requester, upload, new, finish)
        self.arrivals.arrived(pending.media_nid)

    async def _take(self, requester: Requester, upload: Upload, new: NewMedia, finish: Finish) -> None:
        user, quota = requester.user_nid, self.limits.quota
        if quota is not None and upload.declared_length is not None:
            async with self._db.read() as tx:
                if await store.read_used(tx, user) + charged(upload.declared_length) > quota:
                    raise _quota_exceeded()
        with self._one_more(user):
            async with self._spool.receive(upload.pieces) as received:
                await self._gate.admit(requester, _act(requester, new, received))
                verdict = await self._scanning.before_keeping(received)

                async def finish_all(tx: Tx, blob: Blob) -> None:
                    if not await store.charge(tx, user, charged(received.size), quota or _NO_QUOTA):
                        raise _quota_exceeded()
                    await finish(tx, blob)
                    await self._scanning.note(tx, blob, verdict)

                await self._keep(received, finish_all)
        self._scanning.refuse(verdict, new.media_id)

    async def _keep(self, received: Received, finish: Finish) -> None:
        try:
            await self._keeping.keep(received, finish)
        except BlobStoreAway as error:
            _log.error("media_not_kept", error=str(error))  # the sentence says it all
            raise Unavailable("Files cannot be kept at the moment") from error

    @contextlib.contextmanager
    def _one_more(self, user_nid: int) -> Iterator[None]:
        if self._uploading[user_nid] >= AT_ONCE:
            raise LimitExceeded(RETRY_MS, "Too many uploads at the same time")
        self._uploading[user_nid] += 1
        try:
            yield
        finally:
            self._uploading[user_nid] -= 1
            if not self._uploading[user_nid]:
                del self._uploading[user_nid]

    def _new(
        self, user_nid: int, content_type: str, filename: str | None, media_id: str | None = None
    ) -> NewMedia:
        return NewMedia(
            server_name=self.server_name,
            media_id=media_id or self._entropy.letters(24),
            uploader_nid=user_nid,
            content_type=clean_content_type(content_type),
            filename=clean_filename(filename),
            origin=Origin.LOCAL,
            authenticated=self.limits.authenticated,
        )

    # --- finding -----------------------------------------------------------------------------------------------------

    async def find(self, mxc: Mxc, *, wait_ms: int, logged_in: bool = True) -> Stored:
        """A file of this server that may be delivered. `wait_ms`: for one that is not uploaded yet. `logged_in`: whether who
        asks has proved who they are.

        Raises `NotFound`, `NotYetUploaded`, `Forbidden` for what the scanner found harmful, `Unavailable` where it cannot tell.
        """
        found = await self._row(mxc)
        if found is None or self._over(found):
            raise _not_found()
        if found.blob_nid is None:
            arrived = await self.arrivals.wait(found.media_nid, wait_ms / 1000, lambda: self._uploaded(mxc))
            if arrived is None:
                raise NotYetUploaded("This file is not uploaded yet")
            found = arrived
        return await self.deliverable(found, logged_in=logged_in)

    async def deliverable(self, found: Media, *, logged_in: bool) -> Stored:
        """A whole file that may be delivered; see `find`."""
        if found.authenticated and not logged_in:
            raise _not_found()
        if found.quarantined_by is not None and not found.verdict:
            # spec: an administrator's quarantine looks as if there were nothing
            raise _not_found()
        if found.blob_nid is None or found.key is None or found.size is None or found.sha256 is None:
            raise _not_found()
        stored = Stored(found, found.blob_nid, found.key, found.size, found.sha256)
        await self._scanning.before_delivery(stored)
        return stored

    async def _row(self, mxc: Mxc) -> Media | None:
        async with self._db.read() as tx:
            return await store.find(tx, mxc.server_name, mxc.media_id)

    async def _uploaded(self, mxc: Mxc) -> Media | None:
        found = await self._row(mxc)
        return found if found is not None and found.blob_nid is not None else None

    def _over(self, pending: Media) -> bool:
        return pending.expires_ms is not None and pending.expires_ms <= self._clock.now_ms()


def _act(requester: Requester, new: NewMedia, received: Received) -> Act:
    content = {
        "content_type": new.content_type,
        "filename": new.filename,
        "size": received.size,
        "sha256": received.sha256.hex(),
    }
    return upload_act(requester, received.path, content)


def _not_found() -> NotFound:
    return NotFound("There is no such file")


def _quota_exceeded() -> Forbidden:
    # spec: CHECKLIST MEDIA-08
    return Forbidden(
        "Your files take as much room as you may have: delete some, or ask an administrator for more"
    )
