"""Files, put together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from homeserver.config import Config
from homeserver.config.media import MediaSection, ScannerSection, ThumbnailSection
from homeserver.media.admin import MediaAdmin
from homeserver.media.admin_api import MediaAdminApi
from homeserver.media.api import DownloadApi, UploadApi
from homeserver.media.blobs.files import FileBlobs
from homeserver.media.blobs.s3 import S3Blobs
from homeserver.media.keeping import Keeping
from homeserver.media.last_used import FLUSH_SECONDS, LastUsed
from homeserver.media.pages import PageRules, Pages
from homeserver.media.pictures import Pictures
from homeserver.media.place import Place
from homeserver.media.ports import Avatars, BlobStore, Scanner
from homeserver.media.preview_api import PreviewApi
from homeserver.media.previews import Previews
from homeserver.media.remote import RemoteCopies
from homeserver.media.sandbox.pool import Sandbox
from homeserver.media.scanners import Clamd
from homeserver.media.scanning import Scanning
from homeserver.media.service import Limits, MediaService
from homeserver.media.spool import Spool
from homeserver.media.thumbnail_api import ThumbnailApi
from homeserver.media.thumbnails import Bounds, Thumbnails
from homeserver.media.types import DELETE_BLOBS
from homeserver.media.upkeep import MediaUpkeep
from homeserver.runtime.child_processes import IDLE_SECONDS
from homeserver.runtime.clock import Clock
from homeserver.runtime.periodic import every
from homeserver.web.outbound import Outbound
from homeserver.web.system_api import Impaired
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of


class MediaFeature:
    """Services and endpoints."""

    def __init__(self, config: Config, core: Core, avatars: Avatars) -> None:
        self._section = section = config.media
        folder = section.path or config.server.data_dir / "media"
        self._spool = spool = Spool(folder / "incoming", core.entropy)
        self.blobs = blobs = _blobs(section, folder / "content", spool, core.clock)
        self.place = Place(
            core.db, core.entropy, None if section.s3 or not config.database.shared else folder
        )
        self.keeping = keeping = Keeping(core.db, core.jobs, blobs, core.entropy)
        self.used = LastUsed(core.db, core.clock)
        self._scanning = Scanning(core.db, blobs, _scanner(section.scanner, spool))
        self.service = MediaService(
            db=core.db,
            clock=core.clock,
            entropy=core.entropy,
            server_name=core.server_name,
            limits=_limits(config),
            spool=spool,
            keeping=keeping,
            scanning=self._scanning,
            gate=core.gate,
        )
        self.copies = RemoteCopies(
            db=core.db, clock=core.clock, service=self.service, spool=spool, keeping=keeping, used=self.used
        )
        self._sandbox = Sandbox(
            core.clock, processes=section.thumbnails.processes, memory=section.thumbnails.memory
        )
        self.thumbnails = Thumbnails(
            db=core.db,
            clock=core.clock,
            blobs=blobs,
            keeping=keeping,
            spool=spool,
            sandbox=self._sandbox,
            bounds=_bounds(section.thumbnails),
        )
        self._outbound: Outbound | None = None
        self.previews = self._previews(config, core) if section.previews.enabled else None
        self.admin = MediaAdmin(
            db=core.db,
            interning=core.interning,
            events=core.events,
            keeping=keeping,
            avatars=avatars,
            server_name=core.server_name,
        )
        self.upkeep = MediaUpkeep(
            db=core.db, clock=core.clock, keeping=keeping, admin=self.admin, blobs=blobs, spool=spool
        )

    def _previews(self, config: Config, core: Core) -> Previews:
        section = config.media.previews
        self._outbound = outbound = outbound_of(config.outbound)
        rules = PageRules(
            allow=section.allow,
            deny=section.deny,
            max_image=section.max_image,
            timeout=section.timeout,
            language=section.language,
        )
        pictures = Pictures(
            db=core.db,
            clock=core.clock,
            entropy=core.entropy,
            server_name=core.server_name,
            spool=self._spool,
            keeping=self.keeping,
            scanning=self._scanning,
            sandbox=self._sandbox,
            bounds=_bounds(config.media.thumbnails),
            authenticated=not config.media.unauthenticated,
        )
        return Previews(
            db=core.db,
            clock=core.clock,
            pages=Pages(outbound, self._spool, rules),
            pictures=pictures,
            sandbox=self._sandbox,
            seconds=section.timeout,
            kept_ms=int(section.kept * 1000),
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        section = self._section
        return Manifest(
            name="media",
            apis=[
                UploadApi(self.service),
                DownloadApi(self.service, self.copies, self.blobs),
                ThumbnailApi(self.copies, self.thumbnails, self.blobs),
                PreviewApi(self.previews),
                MediaAdminApi(self.admin),
            ],
            jobs={DELETE_BLOBS: self.keeping.delete_blobs},
            periodic=[
                every(FLUSH_SECONDS, self.used.flush, name="media.last_used"),
                every(IDLE_SECONDS, self._sandbox.end_idle, name="media.sandbox"),
                *([self.previews.periodic()] if self.previews is not None else []),
                *self.upkeep.periodic(local_kept=section.local_kept, remote_kept=section.remote_kept),
            ],
            checks={"media": self._place_is_shared},
            closing=[self.service.arrivals.close],
            stop=[self.stop],
        )

    async def _place_is_shared(self) -> None:
        if self.place.trouble is not None:
            raise Impaired(self.place.trouble)

    async def stop(self) -> None:
        """Write what was only noted, and let the threads go."""
        try:
            if self.previews is not None:
                await self.previews.stop()
            if self._outbound is not None:
                await self._outbound.close()
            await self.thumbnails.stop()
            await self._sandbox.close()
            await self.copies.stop()
            await self.used.flush()
        finally:
            self._spool.close()


def _blobs(section: MediaSection, folder: Path, spool: Spool, clock: Clock) -> BlobStore:
    if section.s3 is None:
        return FileBlobs(folder, spool, clock)
    from obstore.store import S3Store

    s3 = section.s3
    keys: dict[str, Any] = {}
    if s3.access_key is not None and s3.secret_key is not None:
        keys = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key.get_secret_value()}
    bucket = S3Store(
        s3.bucket,
        endpoint=s3.endpoint,
        region=s3.region,
        virtual_hosted_style_request=not s3.path_style,
        client_options={"allow_http": (s3.endpoint or "").startswith("http://"), "timeout": "60s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        **keys,
    )
    return S3Blobs(bucket, s3.prefix, spool, clock)


def _limits(config: Config) -> Limits:
    section = config.media
    return Limits(
        max_upload=section.max_upload,
        quota=section.quota_per_user,
        pending=section.pending_uploads,
        pending_ms=int(section.pending_lifetime * 1000),
        authenticated=not section.unauthenticated,
    )


def _bounds(section: ThumbnailSection) -> Bounds:
    return Bounds(
        max_source=section.max_source,
        max_pixels=section.max_pixels,
        max_frames=section.max_frames,
        seconds=section.timeout,
    )


def _scanner(section: ScannerSection | None, spool: Spool) -> Scanner | None:
    if section is None:
        return None
    return Clamd(
        section.address,
        spool,
        timeout=section.timeout,
        deliver_too_large=section.too_large == "deliver",
    )
