"""Previews of web pages.

spec: op:getUrlPreviewAuthed, op:getUrlPreview
"""

from __future__ import annotations

from homeserver.matrix.errors import Unrecognized
from homeserver.media.previews import Previews
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Query, endpoint
from homeserver.web.response import RawJson


class PreviewApi:
    """What a page says of itself."""

    def __init__(self, previews: Previews | None) -> None:
        """`previews`: None: switched off."""
        self._previews = previews

    @endpoint(
        "getUrlPreviewAuthed",
        "GET",
        "/_matrix/client/v1/media/preview_url",
        auth=Auth.USER,
        limit="preview",
    )
    @endpoint("getUrlPreview", "GET", "/_matrix/media/{v}/preview_url", auth=Auth.USER, limit="preview")
    async def preview(self, requester: Requester, url: Query[str], ts: Query[int] = 0) -> RawJson:
        """Tells what a page says of itself, as it is now, whatever moment is asked for."""
        del requester, ts
        if self._previews is None:
            raise Unrecognized("This server looks up no pages")
        return RawJson(await self._previews.find(url))
