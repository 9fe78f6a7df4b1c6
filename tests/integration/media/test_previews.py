"""Previews of web pages, and what they must not reach. CHECKLIST MEDIA-13."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.conftest import StartServer
from tests.integration.media.conftest import DOWNLOAD, THUMBNAIL, parts
from tests.support.client import Expected
from tests.support.user import User

pytest.importorskip("PIL", reason="Pillow is not installed: make install")

from tests.support import pictures  # needs Pillow

PREVIEW = "/_matrix/client/v1/media/preview_url"
PAGE = """<html><head><title>Title</title><meta property="og:title" content="Größe &amp; Maß">
<meta property="og:image" content="/picture.png"><meta property="og:image:width" content="9999">
<meta name="description" content="What it is about"></head></html>"""


class Site:
    """A web site: pages by path; `asked` counts."""

    def __init__(self) -> None:
        self.url = ""
        self.pages: dict[str, tuple[bytes, str]] = {}
        self.asked: dict[str, int] = {}
        self.languages: set[str] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] = self.asked.get(request.path, 0) + 1
        self.languages.add(request.headers.get("Accept-Language", ""))
        if request.path == "/to":
            return web.Response(status=302, headers={"Location": request.query["url"]})
        if request.path == "/slow":
            await asyncio.Event().wait()
        if request.path == "/endless":
            response = web.StreamResponse(headers={"Content-Type": request.query["type"]})
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"<p>x</p>" * 10_000)
            except ConnectionError:
                return response
        if request.path == "/bomb":
            body = gzip.compress(b"\0" * 200_000_000, 1)
            return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "text/html"})
        if request.path in self.pages:
            body, kind = self.pages[request.path]
            return web.Response(body=body, headers={"Content-Type": kind})
        return web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    server = web.Server(found.answer, access_log=None)
    sockets = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
    yield found
    sockets.close()
    await server.shutdown(0.1)


async def preview(user: User, url: str, *, expect: Expected = 200, path: str = PREVIEW) -> Any:
    return await user.get(path, params={"url": url, "ts": 1}, expect=expect)


async def test_media_13_a_page_with_its_picture(start_server: StartServer, site: Site) -> None:
    server = await start_server(media={"previews": {"language": "de"}})
    alice, bob = await server.register("alice"), await server.register("bob")
    picture = pictures.picture("PNG", (900, 300))
    site.pages = {
        "/page": (PAGE.encode(), "text/html; charset=utf-8"),
        "/picture.png": (picture, "image/png"),
    }
    told = await preview(alice, f"{site.url}/page#part")
    uri = told.pop("og:image")
    assert told == {
        "og:title": "Größe & Maß",
        "og:description": "What it is about",
        "og:image:type": "image/png",
        "og:image:width": 900,
        "og:image:height": 300,
        "matrix:image:size": len(picture),
    }
    assert await bob.get(DOWNLOAD, *parts(uri)) == picture
    small = await bob.get(THUMBNAIL, *parts(uri), params={"width": 32, "height": 32, "method": "crop"})
    assert pictures.opened(small).size == (32, 32)
    again = await preview(bob, f"{site.url}/page", path="/_matrix/media/v3/preview_url")
    assert again["og:image"] == uri
    assert site.asked == {"/page": 1, "/picture.png": 1}
    assert site.languages == {"de"}
    await server.client.get(PREVIEW, params={"url": site.url}, expect=(401, "M_MISSING_TOKEN"))
    await alice.get(PREVIEW, expect=(400, "M_MISSING_PARAM"))


async def test_many_who_ask_at_once_cost_one_look(start_server: StartServer, site: Site) -> None:
    server = await start_server()
    alice = await server.register("alice")
    site.pages = {"/page": (b"<title>One</title>", "text/html")}
    answers = await asyncio.gather(*(preview(alice, f"{site.url}/page") for _ in range(10)))
    assert answers == [{"og:title": "One"}] * 10
    assert site.asked == {"/page": 1}


async def test_media_13_pictures_oembed_and_other_things(start_server: StartServer, site: Site) -> None:
    server = await start_server()
    alice = await server.register("alice")
    site.pages = {
        "/p.jpg": (pictures.turned(6, (40, 20)), "image/jpeg"),
        "/f.bin": (b"x" * 100, "application/octet-stream"),
        "/video": (
            b'<link rel=alternate type=application/json+oembed href="embed.json"><title>Page</title>',
            "text/html",
        ),
        "/embed.json": (
            b'{"title":"T","author_name":"A","provider_name":"P","html":"<b>"}',
            "application/json",
        ),
        "/bad": (b'<link rel=alternate type=application/json+oembed href="/bad.json">', "text/html"),
        "/bad.json": (b"[[[", "application/json"),
        "/liar": (b'<meta property=og:image content="/liar.png"><title>L</title>', "text/html"),
        "/liar.png": (pictures.SVG_BOMB, "image/png"),
    }
    told = await preview(alice, f"{site.url}/p.jpg")
    assert (told["og:image:width"], told["og:image:height"]) == (20, 40)
    assert await preview(alice, f"{site.url}/f.bin") == {}
    assert await preview(alice, f"{site.url}/video") == {
        "og:title": "Page",
        "og:description": "A",
        "og:site_name": "P",
    }
    assert await preview(alice, f"{site.url}/bad") == {}
    assert await preview(alice, f"{site.url}/liar") == {"og:title": "L"}
    await preview(alice, f"{site.url}/missing", expect=502)
    await preview(alice, f"{site.url}/missing", expect=502)
    assert site.asked["/missing"] == 1


async def test_media_13_private_addresses_are_not_reached(start_server: StartServer, site: Site) -> None:
    port = site.url.rpartition(":")[2]
    allowed = ["127.0.0.1/32"]
    server = await start_server(outbound={"allow_private": {"previews": allowed}})
    alice = await server.register("alice")
    site.pages = {
        "/page": (
            f'<title>T</title><meta property=og:image content="http://127.0.0.2:{port}/p.png">'.encode(),
            "text/html",
        ),
        "/p.png": (pictures.picture(), "image/png"),
    }
    for url in (
        f"http://127.0.0.2:{port}/page",
        f"http://[::1]:{port}/page",
        f"http://[::ffff:127.0.0.2]:{port}/page",
        f"http://0x7f000002:{port}/page",
        f"http://2130706434:{port}/page",
        "http://169.254.169.254/latest/meta-data/",
        f"http://0.0.0.0:{port}/page",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://127.0.0.1:25/x",
        f"http://user:pass@127.0.0.1:{port}/page",
        "http://",
        "nonsense",
        "http://x/" + "y" * 5000,
        f"{site.url}/to?url=http://127.0.0.2:{port}/page",
        f"{site.url}/to?url=file:///etc/passwd",
        f"{site.url}/to?url={site.url}/to?url=http://127.0.0.3:{port}/page",
    ):
        answer = await alice.exchange("GET", PREVIEW, params={"url": url}, expect=None)
        assert answer.status in {403, 502}, url
    assert "/page" not in site.asked
    assert await preview(alice, f"{site.url}/page") == {"og:title": "T"}
    assert "/p.png" not in site.asked


class Rebinding(AbstractResolver):
    """A name that means a public address first, and this machine afterwards."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        self.asked += 1
        address = "192.0.2.1" if self.asked == 1 else "127.0.0.1"
        return [
            ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0),
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0),
        ]

    async def close(self) -> None: ...


async def test_media_13_a_name_that_changes_its_meaning(start_server: StartServer, site: Site) -> None:
    server = await start_server(
        outbound={"allow_private": {"previews": []}}, media={"previews": {"timeout": 3}}
    )
    assert server.app is not None
    outbound = server.app.features.media._outbound
    assert outbound is not None
    outbound._resolver = Rebinding()
    alice = await server.register("alice")
    site.pages = {"/page": (b"<title>secret</title>", "text/html")}
    for name in ("one", "two"):
        url = f"http://{name}.attacker.example:{site.url.rpartition(':')[2]}/page"
        answer = await alice.exchange("GET", PREVIEW, params={"url": url}, expect=None)
        assert answer.status in {403, 502}
    assert site.asked == {}


async def test_hosts_that_may_be_asked(start_server: StartServer, site: Site) -> None:
    denied = await start_server(media={"previews": {"deny": ["localhost", "*.0.0.1"]}})
    alice = await denied.register("alice")
    site.pages = {"/page": (b"<title>T</title>", "text/html")}
    local = site.url.replace("127.0.0.1", "localhost")
    for url in (site.url, local, local.replace("localhost", "LOCALHOST.")):
        await preview(alice, f"{url}/page", expect=(403, "M_FORBIDDEN"))
    allowed = await start_server(media={"previews": {"allow": ["127.0.0.1"]}})
    bob = await allowed.register("bob")
    assert await preview(bob, f"{site.url}/page") == {"og:title": "T"}
    await preview(bob, f"{local}/page", expect=(403, "M_FORBIDDEN"))
    await preview(bob, f"{site.url}/to?url={local}/page", expect=(403, "M_FORBIDDEN"))
    off = await start_server(media={"previews": {"enabled": False}})
    carol = await off.register("carol")
    await preview(carol, f"{site.url}/page", expect=(404, "M_UNRECOGNIZED"))


async def test_pages_that_do_not_end(start_server: StartServer, site: Site) -> None:
    """Endless, slow, and small ones that unpack to much: each is over in its time, and holds nobody up."""
    server = await start_server(media={"previews": {"timeout": 8, "max_image": "1M"}})
    alice = await server.register("alice")
    began = time.monotonic()
    assert await preview(alice, f"{site.url}/endless?type=text/html") == {}
    assert await preview(alice, f"{site.url}/endless?type=application/zip") == {}
    assert await preview(alice, f"{site.url}/bomb") == {}
    await preview(alice, f"{site.url}/endless?type=image/png", expect=502)
    await preview(alice, f"{site.url}/slow", expect=502)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("piece", ["<", "<!--", "<meta a='", "<div>", "<![CDATA[", "&#", "<title>"])
async def test_a_page_of_odd_html_holds_nobody_up(start_server: StartServer, site: Site, piece: str) -> None:
    """The watchdog over the event loop fails this test if it does."""
    server = await start_server()
    alice = await server.register("alice")
    site.pages = {"/page": ((piece * 2_000_000)[:2_000_000].encode(), "text/html")}
    asked = asyncio.create_task(preview(alice, f"{site.url}/page"))
    while not asked.done():
        began = time.monotonic()
        await alice.get("/account/whoami")
        assert time.monotonic() - began < 10
    await asked
