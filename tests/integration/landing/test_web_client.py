"""A web client that the server hands out: its files, its configuration, and nothing else of the disk."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import until

SCRIPT = "export const answer = 42; // " + "é" * 200_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("nobody's business")
    client = tmp_path / "client"
    (client / "bundles" / "abc").mkdir(parents=True)
    (client / "index.html").write_text("<!doctype html><title>Client</title>")
    (client / "config.json").write_text('{"default_server_config": "of the client"}')
    (client / "bundles" / "abc" / "app.js").write_text(SCRIPT)
    (client / "empty.css").write_text("")
    (client / ".git").write_text("hidden")
    (client / "out.txt").symlink_to(tmp_path / "secret.txt")
    (client / "loop").symlink_to(client / "loop")
    os.mkfifo(client / "pipe.js")
    return client


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def serving(start_server: StartServer, folder: Path, **options: Any) -> Server:
    return await start_server(
        server={"public_baseurl": "https://matrix.example.com"},
        web_client={"path": str(folder), **options},
        branding={"name": "Example"},
    )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_files_are_handed_out(
    start_server: StartServer, folder: Path, session: aiohttp.ClientSession
) -> None:
    server = await serving(start_server, folder)
    async with session.get(server.url + "/web") as answer:
        assert str(answer.url) == server.url + "/web/"
        assert answer.headers["Content-Type"].startswith("text/html")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    plain = {"Accept-Encoding": "identity"}
    async with session.get(server.url + "/web/bundles/abc/app.js", headers=plain) as answer:
        assert await answer.text() == SCRIPT
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert "immutable" in answer.headers["Cache-Control"]
        etag = answer.headers["ETag"]
    async with session.get(
        server.url + "/web/bundles/abc/app.js", headers={**plain, "If-None-Match": etag}
    ) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
    async with session.get(server.url + "/web/empty.css") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with session.get(server.url + "/") as answer:
        text = await answer.read()
        text = gzip.decompress(text) if "Content-Encoding" in answer.headers else text
        assert b'href="/web/"' in text


async def test_what_is_large_travels_compressed_and_is_compressed_once(
    start_server: StartServer, folder: Path, session: aiohttp.ClientSession
) -> None:
    server = await serving(start_server, folder)

    async def ask() -> bytes:
        headers = {"Accept-Encoding": "gzip"}
        async with session.get(server.url + "/web/bundles/abc/app.js", headers=headers) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            return await answer.read()

    bodies = await asyncio.gather(*(ask() for _ in range(20)))
    assert len(set(bodies)) == 1
    assert gzip.decompress(bodies[0]).decode() == SCRIPT
    (folder / "bundles" / "abc" / "app.js").write_text("newer" * 1_000)
    assert gzip.decompress(await ask()).decode() == "newer" * 1_000


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../secret.txt",
            "..%2Fsecret.txt",
            "%2e%2e/secret.txt",
            "bundles/../../secret.txt",
            "out.txt",
            ".git",
        ),
        *("bundles", "bundles/", "/index.html", "nothing.js", "loop", "pipe.js", "x" * 3_000, "a\\..\\b"),
        *("bundles//abc/app.js", "index.html/", "a/" * 20),
    ],
)
async def test_nothing_else_is(
    start_server: StartServer, folder: Path, session: aiohttp.ClientSession, path: str
) -> None:
    server = await serving(start_server, folder)
    async with session.get(yarl.URL(f"{server.url}/web/{path}", encoded=True)) as answer:
        body = await answer.read()
        assert answer.status == 404, body
        assert b"nobody's business" not in body


async def test_its_configuration_is_the_servers(
    start_server: StartServer, folder: Path, session: aiohttp.ClientSession
) -> None:
    server = await serving(start_server, folder, settings={"default_theme": "dark", "brand": "Ours"})
    for name in ("config.json", "config.chat.example.com.json"):
        async with session.get(f"{server.url}/web/{name}", headers={"Accept-Encoding": "identity"}) as answer:
            told = await answer.json()
            home = told["default_server_config"]["m.homeserver"]
            assert home == {"base_url": "https://matrix.example.com", "server_name": "localhost"}
            assert (told["brand"], told["default_theme"]) == ("Ours", "dark")
            assert told["disable_custom_urls"] is True
    server = await serving(start_server, folder, kind="cinny")
    async with session.get(
        f"{server.url}/web/config.json", headers={"Accept-Encoding": "identity"}
    ) as answer:
        told = await answer.json()
        assert told["homeserverList"] == ["https://matrix.example.com"], "where it is for sure"
        assert told["hashRouter"]["enabled"] is True


async def test_a_client_of_many_requests_leaves_no_open_file(
    start_server: StartServer, folder: Path, session: aiohttp.ClientSession
) -> None:
    server = await serving(start_server, folder)
    before = open_files()
    for _ in range(30):
        async with session.head(server.url + "/web/bundles/abc/app.js") as answer:
            assert answer.status == 200
        async with session.get(
            server.url + "/web/bundles/abc/app.js", headers={"Accept-Encoding": "identity"}
        ) as answer:
            await answer.content.read(10)  # and gone
            answer.close()

    async def closed() -> bool:
        return open_files() < before + 20

    await until(closed)
