"""Files go in and come out as they were. CHECKLIST MEDIA-01 to MEDIA-08, MEDIA-14, MEDIA-15."""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from homeserver.matrix.errors import TooLarge
from homeserver.matrix.mxc import Mxc
from homeserver.media.ports import RemoteFile
from homeserver.web.binding import Bounds
from homeserver.web.stream import ClientTimeouts
from tests.conftest import StartServer
from tests.integration.media.conftest import DOWNLOAD, FROZEN, UPLOAD, parts, upload
from tests.support import server as support_server
from tests.support.postgres import Postgres
from tests.support.server import Server
from tests.support.waiting import until

SCRIPT = b"<script>alert(1)</script>"


async def test_media_03_a_file_comes_back_with_its_type(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    data = os.urandom(700_000)
    uri = await upload(alice, data, "image/png")
    answer = await bob.exchange("GET", DOWNLOAD, *parts(uri))
    assert answer.body == data
    assert answer.headers["content-type"] == "image/png"
    unknown = await bob.exchange("GET", DOWNLOAD, *parts(await upload(alice, b"?", None)))
    assert unknown.headers["content-type"] == "application/octet-stream"


async def test_an_empty_file_is_one(server: Server) -> None:
    alice = await server.register("alice")
    answer = await alice.exchange("GET", DOWNLOAD, *parts(await upload(alice, b"")))
    assert (answer.body, answer.headers["content-length"]) == (b"", "0")


async def test_media_01_ids_are_refused_before_anything_is_looked_for(server: Server) -> None:
    alice = await server.register("alice")
    for server_name, media_id in (
        ("localhost", "../../../etc/passwd"),
        ("localhost", "a.b"),
        ("localhost", "ä"),
        ("..", "x/../y"),
        ("local host", "abc"),
    ):
        await alice.get(DOWNLOAD, server_name, media_id, expect=(400, "M_INVALID_PARAM"))
    await alice.get(DOWNLOAD, "localhost", "nothing", expect=(404, "M_NOT_FOUND"))
    raw = "/_matrix/client/v1/media/download/localhost/a%00b"
    await alice.get(raw, expect=(400, "M_INVALID_PARAM"))


async def test_media_02_a_token_is_needed_and_guests_have_one(server: Server) -> None:
    alice = await server.register("alice")
    uri = await upload(alice)
    await server.client.get(DOWNLOAD, *parts(uri), expect=(401, "M_MISSING_TOKEN"))
    guest = server.user(await server.client.post("/register", params={"kind": "guest"}))
    assert await guest.get(DOWNLOAD, *parts(uri)) == b"hello"
    assert (await guest.get("/_matrix/client/v1/media/config"))["m.upload.size"] > 0
    await server.client.post(UPLOAD, data=b"x", expect=(401, "M_MISSING_TOKEN"))


async def test_media_02_old_endpoints_give_only_what_is_from_before_the_freeze(
    start_server: StartServer,
) -> None:
    frozen = await start_server()
    alice = await frozen.register("alice")
    uri = await upload(alice)
    for version in ("v3", "r0", "v1"):
        path = f"/_matrix/media/{version}/download/{{}}/{{}}"
        await frozen.client.get(path, *parts(uri), expect=(404, "M_NOT_FOUND"))
    opened = await start_server(media={"unauthenticated": True})
    carol = await opened.register("carol")
    uri = await upload(carol, b"open")
    assert await opened.client.get(FROZEN, *parts(uri), params={"allow_redirect": True}) == b"open"
    named = await opened.client.exchange("GET", FROZEN + "/{}", *parts(uri), "other.txt")
    assert named.headers["content-disposition"] == 'inline; filename="other.txt"'


async def test_media_02_what_came_in_before_the_freeze_stays_open(
    tmp_path: Path, postgres: Postgres, worker: str, migrated_template: str
) -> None:
    """Whoever takes the option back: old links in rooms still lead somewhere, and what comes in then asks for a token."""
    dsn = postgres.create(f"freeze_{worker}", template=migrated_template)
    async with support_server.run(dsn, tmp_path, media={"unauthenticated": True}) as server:
        old = await upload(await server.register("alice"), b"old")
    async with support_server.run(dsn, tmp_path) as server:
        bob = await server.register("bob")
        new = await upload(bob, b"new")
        assert await server.client.get(FROZEN, *parts(old)) == b"old"
        assert await bob.get(DOWNLOAD, *parts(old)) == b"old"
        await server.client.get(FROZEN, *parts(new), expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize(
    ("content_type", "filename", "disposition"),
    [
        ("image/png", "a.png", 'inline; filename="a.png"'),
        ("text/html", "a.html", 'attachment; filename="a.html"'),
        ("image/svg+xml", None, "attachment"),
        ("application/pdf", "北京.pdf", "attachment; filename*=utf-8''%E5%8C%97%E4%BA%AC.pdf"),
        ("image/png", "../../x.png", 'inline; filename=".._.._x.png"'),
        ("image/png", "a\r\nX-Evil: 1.png", 'inline; filename="a__X-Evil: 1.png"'),
    ],
)
async def test_media_04_disposition(
    server: Server, content_type: str, filename: str | None, disposition: str
) -> None:
    alice = await server.register("alice")
    answer = await alice.exchange("GET", DOWNLOAD, *parts(await upload(alice, b"x", content_type, filename)))
    assert answer.headers["content-disposition"] == disposition


async def test_media_04_the_name_in_the_address_counts(server: Server) -> None:
    alice = await server.register("alice")
    uri = await upload(alice, b"x", "text/plain", "mine.txt")
    answer = await alice.exchange("GET", DOWNLOAD + "/{}", *parts(uri), "a/b ü.txt")
    assert answer.headers["content-disposition"] == "inline; filename*=utf-8''a_b%20%C3%BC.txt"


async def test_a_nul_in_a_name_is_a_mistake_of_the_client(server: Server) -> None:
    alice = await server.register("alice")
    await upload(alice, filename="a\0b", expect=(400, "M_INVALID_PARAM"))


@pytest.mark.parametrize(
    ("content_type", "data", "shown"),
    [
        ("text/html", SCRIPT, False),
        ("application/xhtml+xml", SCRIPT, False),
        ("text/xml", SCRIPT, False),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>", False),
        ("text/javascript", b"alert(1)", False),
        ("image/gif", b"GIF89a/*\0\0*/=1;" + SCRIPT, True),  # a picture, a script and a page
        ("text/plain", SCRIPT, True),
    ],
)
async def test_media_05_a_file_cannot_act(
    server: Server, content_type: str, data: bytes, shown: bool
) -> None:
    """MEDIA-04: only what is safe is shown in place; as what it was uploaded as, whatever else it may be."""
    alice = await server.register("alice")
    uri = await upload(alice, data, content_type)
    for headers in (None, {"Range": "bytes=0-3"}):
        answer = await alice.exchange(
            "GET", DOWNLOAD, *parts(uri), headers=headers, expect=200 if headers is None else 206
        )
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none';")
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].partition(";")[0] == content_type
        assert answer.headers["content-disposition"] == ("inline" if shown else "attachment")


async def test_media_06_an_address_first(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    made = await alice.post("/_matrix/media/v1/create")
    assert abs(made["unused_expires_at"] / 1000 - time.time() - 24 * 3600) < 600
    path = "/_matrix/media/v3/upload/{}/{}"
    where = parts(made["content_uri"])
    await bob.put(path, *where, data=b"x", expect=(403, "M_FORBIDDEN"))
    await alice.put(path, where[0], "missing", data=b"x", expect=(404, "M_NOT_FOUND"))
    await alice.put(path, "elsewhere.example", where[1], data=b"x", expect=(404, "M_NOT_FOUND"))
    await alice.put(path, *where, data=b"first", headers={"Content-Type": "text/css"})
    await alice.put(path, *where, data=b"second", expect=(409, "M_CANNOT_OVERWRITE_MEDIA"))
    answer = await bob.exchange("GET", DOWNLOAD, *where)
    assert (answer.body, answer.headers["content-type"]) == (b"first", "text/css")


async def test_media_06_two_uploads_at_once_to_one_address(server: Server) -> None:
    alice = await server.register("alice")
    where = parts((await alice.post("/_matrix/media/v1/create"))["content_uri"])
    answers = await asyncio.gather(
        *(
            alice.exchange("PUT", "/_matrix/media/v3/upload/{}/{}", *where, data=text, expect=None)
            for text in (b"a" * 1000, b"b" * 1000, b"c" * 1000)
        )
    )
    assert sorted(answer.status for answer in answers) == [200, 409, 409]


async def test_media_06_pending_addresses_are_bounded_and_end(start_server: StartServer) -> None:
    server = await start_server(media={"pending_uploads": 2, "pending_lifetime": 60})
    alice = await server.register("alice")
    first = await alice.post("/_matrix/media/v1/create")
    await alice.post("/_matrix/media/v1/create")
    await alice.post("/_matrix/media/v1/create", expect=(429, "M_LIMIT_EXCEEDED"))
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute("UPDATE media SET expires_ms = expires_ms - 61000")
    where = parts(first["content_uri"])
    await alice.put("/_matrix/media/v3/upload/{}/{}", *where, data=b"x", expect=(404, "M_NOT_FOUND"))
    await alice.get(DOWNLOAD, *where, expect=(404, "M_NOT_FOUND"))
    await alice.post("/_matrix/media/v1/create")


async def test_media_07_who_asks_too_early_waits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    where = parts((await alice.post("/_matrix/media/v1/create"))["content_uri"])
    await bob.get(DOWNLOAD, *where, params={"timeout_ms": 50}, expect=(504, "M_NOT_YET_UPLOADED"))
    await bob.get(DOWNLOAD, *where, params={"timeout_ms": -1}, expect=(400, "M_INVALID_PARAM"))
    monkeypatch.setattr("homeserver.media.api.LONGEST_WAIT_MS", 100)
    for much in (10**9, 2**53 - 1):  # it is capped
        await bob.get(DOWNLOAD, *where, params={"timeout_ms": much}, expect=(504, "M_NOT_YET_UPLOADED"))
    monkeypatch.undo()
    waiting = asyncio.create_task(bob.get(DOWNLOAD, *where))
    await asyncio.sleep(0.1)
    await alice.put("/_matrix/media/v3/upload/{}/{}", *where, data=b"now")
    async with asyncio.timeout(60):
        assert await waiting == b"now"


async def test_media_08_media_14_too_large_is_said_before_and_while_it_is_sent(
    start_server: StartServer,
) -> None:
    server = await start_server(media={"max_upload": 1000}, federation={"enabled": False})
    alice = await server.register("alice")
    for path in ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config"):
        assert await alice.get(path) == {"m.upload.size": 1000}
    await upload(alice, b"x" * 1000)
    await upload(alice, b"x" * 1001, expect=(413, "M_TOO_LARGE"))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 500

    headers = {"Authorization": f"Bearer {alice.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + UPLOAD, data=endless(), headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["errcode"]) == (413, "M_TOO_LARGE")


async def test_media_08_a_quota_counts_all_files_of_a_person(start_server: StartServer) -> None:
    server = await start_server(media={"quota_per_user": 100_000})
    alice, bob = await server.register("alice"), await server.register("bob")
    await upload(alice, os.urandom(60_000))
    await upload(alice, os.urandom(60_000), expect=(403, "M_FORBIDDEN"))
    await upload(bob, os.urandom(60_000))
    for _ in range(9):  # each counts what it takes on a disk
        await upload(alice, b"tiny")
    await upload(alice, b"tiny", expect=(403, "M_FORBIDDEN"))
    answers = await asyncio.gather(
        *(bob.exchange("POST", UPLOAD, data=os.urandom(30_000), expect=None) for _ in range(4))
    )
    assert sorted(answer.status for answer in answers) == [200, 403, 403, 403]


async def test_media_15_old_endpoints_never_redirect(start_server: StartServer) -> None:
    server = await start_server(media={"unauthenticated": True})
    alice = await server.register("alice")
    uri = await upload(alice)
    for allowed in (True, False):
        await server.client.get(FROZEN, *parts(uri), params={"allow_redirect": allowed}, expect=200)


async def test_parts_of_a_file(server: Server) -> None:
    alice = await server.register("alice")
    data = bytes(range(256)) * 4000
    where = parts(await upload(alice, data, "video/mp4"))

    async def part(told: str, expect: int = 206, **more: str) -> tuple[bytes, str]:
        headers = {"Range": told, **more}
        answer = await alice.exchange("GET", DOWNLOAD, *where, headers=headers, expect=expect)
        return answer.body, answer.headers.get("content-range", "")

    size = len(data)
    assert await part("bytes=0-9") == (data[:10], f"bytes 0-9/{size}")
    assert await part("bytes=300000-") == (data[300000:], f"bytes 300000-{size - 1}/{size}")
    assert await part("bytes=-7") == (data[-7:], f"bytes {size - 7}-{size - 1}/{size}")
    assert await part("bytes=1-2,4-5", 200) == (data, "")
    assert (await part(f"bytes={size}-", 416))[1] == f"bytes */{size}"
    whole = await alice.exchange("GET", DOWNLOAD, *where)
    etag = whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    assert (await part("bytes=0-9", **{"If-Range": etag}))[0] == data[:10]
    assert (await part("bytes=0-9", 200, **{"If-Range": '"other"'}))[0] == data
    await alice.exchange("GET", DOWNLOAD, *where, headers={"If-None-Match": etag}, expect=304)
    head = await alice.exchange("HEAD", DOWNLOAD, *where)
    assert (head.body, head.headers["content-length"]) == (b"", str(size))


async def test_what_is_uploaded_twice_is_kept_once(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    data = os.urandom(10_000)
    uris = await asyncio.gather(*(upload(user, data) for user in (alice, bob) * 4))
    assert len(set(uris)) == 8
    kept = [path for path in folder_of(server).rglob("*") if path.is_file()]
    assert [path.name.partition(".")[0] for path in kept] == [hashlib.sha256(data).hexdigest()]
    assert [oct(path.stat().st_mode)[-3:] for path in kept] == ["600"]


async def test_a_broken_upload_leaves_nothing(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    server = await start_server()
    alice = await server.register("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    del reader
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: 900000\r\n\r\n"
    writer.write(head.encode() + b"x" * 300_000)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()

    async def nothing_there() -> bool:
        return not any(path.is_file() for path in folder_of(server).rglob("*"))

    await until(nothing_there)
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM media") == 0


@pytest.mark.parametrize("every", [0.05, None], ids=["drips", "stops"])
async def test_a_slow_upload_is_ended_with_an_answer_and_leaves_nothing(
    start_server: StartServer,
    folder_of: Callable[[Server], Path],
    monkeypatch: pytest.MonkeyPatch,
    every: float | None,
) -> None:
    """Who sends next to nothing, or nothing any more, holds a connection and a file for a bounded time."""
    patient = ClientTimeouts(stall=3.0, body=3.0, min_rate=100_000)
    monkeypatch.setattr("homeserver.web.settings.Bounds", partial(Bounds, timeouts=patient))
    server = await start_server()
    alice = await server.register("alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: 900000\r\n\r\n"
    writer.write(head.encode() + b"x" * 1000)
    answered = asyncio.create_task(reader.readline())
    try:
        async with asyncio.timeout(60):
            while not answered.done():
                if every is not None:
                    writer.write(b"x" * 100)
                await asyncio.wait([answered], timeout=every)
        assert (await answered).split()[1] == b"408"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def nothing_there() -> bool:
        return not any(path.is_file() for path in folder_of(server).rglob("*"))

    await until(nothing_there, within=30)


async def test_a_blob_that_is_gone_is_said_to_be_gone(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    server = await start_server()
    alice = await server.register("alice")
    uri = await upload(alice)
    for path in folder_of(server).rglob("*"):
        if path.is_file():
            path.unlink()
    await alice.get(DOWNLOAD, *parts(uri), expect=(404, "M_NOT_FOUND"))


class Elsewhere:
    """Another server with one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0

    @asynccontextmanager
    async def fetch(self, mxc: Mxc, *, timeout: float, max_bytes: int) -> AsyncIterator[RemoteFile]:
        self.asked += 1
        if len(self.data) > max_bytes:
            raise TooLarge("too large", status=502)

        async def pieces() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.05)
            yield self.data

        yield RemoteFile(pieces(), "image/webp", "über.webp")


async def test_a_copy_of_another_servers_file_is_fetched_once(start_server: StartServer) -> None:
    server = await start_server(media={"max_upload": 1000}, federation={"enabled": False})
    alice = await server.register("alice")
    where = ("elsewhere.example", "abc")
    await alice.get(DOWNLOAD, *where, expect=(404, "M_NOT_FOUND"))
    assert server.app is not None
    elsewhere = Elsewhere(b"far away")
    server.app.features.media.copies.fetch_with(elsewhere)
    answers = await asyncio.gather(*(alice.exchange("GET", DOWNLOAD, *where) for _ in range(5)))
    assert {answer.body for answer in answers} == {b"far away"}
    assert answers[0].headers["content-disposition"] == "inline; filename*=utf-8''%C3%BCber.webp"
    assert elsewhere.asked == 1
    await server.client.get(
        FROZEN, "elsewhere.example", "other", params={"allow_remote": False}, expect=(404, "M_NOT_FOUND")
    )
    assert elsewhere.asked == 1
    elsewhere.data = b"x" * 1001  # CHECKLIST MEDIA-08
    await alice.get(DOWNLOAD, "elsewhere.example", "large", expect=(502, "M_TOO_LARGE"))


async def test_tiny_files_without_end_are_refused(start_server: StartServer) -> None:
    """By number, not by size; what is refused is not kept, whichever way it was to come."""
    limits = {"enabled": True, "upload": {"per_second": 0.01, "burst": 5}}
    server = await start_server(rate_limits=limits)
    alice, bob = await server.register("alice"), await server.register("bob")
    for number in range(5):
        await upload(alice, b"%d" % number)
    for _ in range(20):
        await upload(alice, b"x", expect=(429, "M_LIMIT_EXCEEDED"))
    await alice.post("/_matrix/media/v1/create", expect=(429, "M_LIMIT_EXCEEDED"))
    await upload(bob, b"another's")
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM media") == 6
