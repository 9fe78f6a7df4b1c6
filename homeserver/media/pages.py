"""Taking web pages and their pictures: bounded in bytes and time, over `web/outbound.py`, which reaches no private address.

Every address is looked at again: that of each redirect, of the picture and of the oEmbed document.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from homeserver.media.sandbox.pages import MAX_PAGE
from homeserver.media.spool import Spool
from homeserver.media.types import Received
from homeserver.web.outbound import (
    MAX_REDIRECTS,
    AnswerTooLarge,
    HttpRequest,
    Outbound,
    Purpose,
    Refused,
    Unreachable,
    permitted,
    redirected,
)

MAX_URL: Final = 4096
"""Characters."""
MAX_OEMBED: Final = 128 * 1024
"""Bytes of an oEmbed document."""
HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_WANTED: Final = "text/html,application/xhtml+xml,image/*;q=0.9,*/*;q=0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRules:
    """What the configuration says."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    max_image: int
    """Bytes."""
    timeout: float
    """Seconds for one answer."""
    language: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What a URL has led to."""

    url: URL
    """After redirects."""
    content_type: str
    """As told, with parameters."""
    kind: str
    """The type alone, in lower case."""
    received: Received


class Pages:
    """Asks web servers."""

    def __init__(self, outbound: Outbound, spool: Spool, rules: PageRules) -> None:
        self._outbound = outbound
        self._spool = spool
        self._rules = rules

    def check(self, text: str) -> URL:
        """A URL that may be asked. Raises `Refused`."""
        if len(text) > MAX_URL:
            raise Refused("the URL is too long")
        url = permitted(text).with_fragment(None)
        host = (url.raw_host or "").lower().rstrip(".")
        rules = self._rules
        if any(_matches(host, each) for each in rules.deny):
            raise Refused("this host is not asked")
        if rules.allow and not any(_matches(host, each) for each in rules.allow):
            raise Refused("this host is not asked")
        return url

    @contextlib.asynccontextmanager
    async def take(self, text: str) -> AsyncIterator[Taken]:
        """What a URL leads to, on the disk as long as the block lasts: the beginning of a page, or a whole picture or oEmbed
        document; of other things nothing. Raises `OutboundError`.
        """
        url = self.check(text)
        headers = {"Accept": _WANTED, "Accept-Language": self._rules.language}
        for _ in range(MAX_REDIRECTS + 1):
            request = HttpRequest(method="GET", url=str(url), headers=headers, timeout=self._rules.timeout)
            async with self._outbound.exchange(Purpose.PREVIEWS, request) as response:
                following = redirected(response, url)
                if following is None:
                    if response.status != 200:
                        raise Unreachable(f"{url.host} answers {response.status}")
                    kind = response.content_type.lower()
                    async with self._spool.receive(self._pieces(response, kind)) as received:
                        yield Taken(url, response.headers.get("Content-Type", ""), kind, received)
                    return
            url = self.check(str(following))
        raise Refused(f"{url.host} redirects too often")

    async def _pieces(self, response: aiohttp.ClientResponse, kind: str) -> AsyncIterator[bytes]:
        most, cut = 0, True
        if kind in HTML:
            most = MAX_PAGE
        elif kind.startswith("image/"):
            most, cut = self._rules.max_image, False
        elif kind.endswith("json"):
            most, cut = MAX_OEMBED, False
        size = 0
        if most:
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > most:
                    if not cut:
                        response.close()
                        raise AnswerTooLarge(f"{response.url.host} answers with more than {most} bytes")
                    yield piece[: most - size] if size - len(piece) < most else b""
                    break
                yield piece
        response.close()


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern.strip("[]")
