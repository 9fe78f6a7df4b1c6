"""Previews of web pages: OpenGraph and oEmbed, with the picture kept here.

spec: op:getUrlPreviewAuthed (CHECKLIST MEDIA-13)
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import msgspec
import structlog

from homeserver.matrix.errors import Forbidden, MatrixError, Unavailable
from homeserver.media import preview_store as store
from homeserver.media.names import clean_content_type, clean_filename
from homeserver.media.pages import HTML, Pages, Taken
from homeserver.media.pictures import Pictures
from homeserver.media.sandbox.pages import MAX_TEXT
from homeserver.media.sandbox.pool import Sandbox, SandboxFailed
from homeserver.media.sandbox.tasks import Page, PageTask
from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused
from homeserver.runtime.periodic import Periodic, every
from homeserver.storage.database import Database
from homeserver.web.outbound import OutboundError, Refused

_log = structlog.get_logger("atrium.media")

AT_ONCE: Final = 16
"""Pages that a process looks up at the same time."""
FAILED_MS: Final = 300_000
"""After which a page that could not be had is tried again."""
_PAGE_SECONDS: Final = 5.0
"""CPU time for reading a page."""
Properties = dict[str, str | int]


class _Oembed(msgspec.Struct):
    """What counts of an oEmbed document. spec: https://oembed.com/#section2.3"""

    title: str | None = None
    author_name: str | None = None
    provider_name: str | None = None
    thumbnail_url: str | None = None


_read_oembed = msgspec.json.Decoder(_Oembed).decode


class Previews:
    """Looks pages up. Under way in this process: one look-up per page."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        pages: Pages,
        pictures: Pictures,
        sandbox: Sandbox,
        seconds: float,
        kept_ms: int,
    ) -> None:
        """`seconds`: for a page with all that belongs to it; `kept_ms`: how long a preview lasts."""
        self._db = db
        self._clock = clock
        self._pages = pages
        self._pictures = pictures
        self._sandbox = sandbox
        self._seconds = seconds
        self._kept_ms = kept_ms
        self._under_way: dict[bytes, asyncio.Task[bytes | None]] = {}

    def periodic(self) -> Periodic:
        """Forgetting what is too old."""
        return every(3600.0, self._forget, name="media.previews", once_in_cluster=True)

    async def stop(self) -> None:
        """End what is under way."""
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def find(self, text: str) -> bytes:
        """The preview of a URL, as JSON. Raises `Forbidden` for what may not be asked, `Unavailable` (502) for what cannot be
        had, `Unavailable` for too much at the same time.
        """
        try:
            url = str(self._pages.check(text))
        except Refused as error:
            raise Forbidden(f"This address is not looked up: {error}") from error
        key = hashlib.sha256(url.encode("utf-8", "replace")).digest()
        async with self._db.read() as tx:
            kept = await store.find(tx, key, self._clock.now_ms())
        properties = kept.properties if kept is not None else await self._look_up_once(key, url)
        if properties is None:
            raise Unavailable("This page cannot be had", status=502)
        return properties

    async def _look_up_once(self, key: bytes, url: str) -> bytes | None:
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= AT_ONCE:
                raise Unavailable("Too many pages are looked up at the moment")
            task = self._under_way[key] = asyncio.create_task(self._look_up(key, url))
            task.add_done_callback(lambda done: self._done(key, done))
        async with paused():
            return await asyncio.shield(task)

    def _done(self, key: bytes, task: asyncio.Task[bytes | None]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # who asked has been told, unless they have gone

    async def _look_up(self, key: bytes, url: str) -> bytes | None:
        properties: bytes | None = None
        lasts = FAILED_MS
        try:
            async with asyncio.timeout(self._seconds):
                properties = msgspec.json.encode(await self._properties(url))
            lasts = self._kept_ms
        except Refused as error:
            raise Forbidden("This address is not looked up: it leads where this server may not go") from error
        except (OutboundError, TimeoutError, SandboxFailed) as error:
            _log.info("preview_failed", cause=type(error).__name__)
        async with self._db.transaction() as tx:
            await store.upsert(tx, key, properties, self._clock.now_ms() + lasts)
        return properties

    async def _properties(self, url: str) -> Properties:
        async with self._pages.take(url) as taken:
            if taken.kind.startswith("image/"):
                return await self._picture_of(taken)
            if taken.kind not in HTML:
                return {}
            task = PageTask(
                source=str(taken.received.path), content_type=taken.content_type[:200], seconds=_PAGE_SECONDS
            )
            page = await self._sandbox.run(task)
        if not isinstance(page, Page):
            return {}
        found = dict(page.properties)
        if page.oembed and not {"og:title", "og:image"} <= found.keys():
            found = await self._oembed(taken, page.oembed) | found
        source = found.pop("og:image", None)
        told: Properties = {name: value for name, value in found.items() if not name.startswith("og:image:")}
        if source is not None:
            told |= await self._picture_at(taken, source)
        return told

    async def _picture_at(self, page: Taken, source: str) -> Properties:
        """The picture of a page; nothing if it cannot be had."""
        try:
            async with self._pages.take(_joined(page, source)) as taken:
                return await self._picture_of(taken) if taken.kind.startswith("image/") else {}
        except (OutboundError, MatrixError, SandboxFailed) as error:
            _log.info("preview_picture_failed", cause=type(error).__name__)
            return {}

    async def _picture_of(self, taken: Taken) -> Properties:
        content_type = clean_content_type(taken.content_type)
        kept = await self._pictures.keep(taken.received, content_type, clean_filename(taken.url.name))
        if kept is None:
            return {}
        mxc, made = kept
        return {
            "og:image": str(mxc),
            "og:image:type": made.source_type,
            "og:image:width": made.source_width,
            "og:image:height": made.source_height,
            "matrix:image:size": taken.received.size,
        }

    async def _oembed(self, page: Taken, address: str) -> dict[str, str]:
        try:
            async with self._pages.take(_joined(page, address)) as taken:
                document = _read_oembed(await self._pictures.read(taken.received))
        except (OutboundError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.info("preview_oembed_failed", cause=type(error).__name__)
            return {}
        told = {
            "og:title": document.title,
            "og:site_name": document.provider_name,
            "og:description": document.author_name,
            "og:image": document.thumbnail_url,
        }
        return {name: value[:MAX_TEXT] for name, value in told.items() if value}

    async def _forget(self) -> None:
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, self._clock.now_ms())


def _joined(page: Taken, address: str) -> str:
    """An address as it stands in a page. Raises `Refused`."""
    try:
        return str(page.url.join(type(page.url)(address.strip())))
    except ValueError:
        raise Refused("not a URL") from None
