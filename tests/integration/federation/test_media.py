"""Files given to other servers and fetched from them: CHECKLIST MEDIA-08, MEDIA-16, FED-39."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.federation import Federation
from tests.support.pictures import picture
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server

DOWNLOAD = "/_matrix/client/v1/media/download/{}/{}"
THEIRS = "/_matrix/federation/v1/media/download/"
OLD = "/_matrix/media/v3/download/"


async def both(federation: Federation, **sections: Any) -> tuple[Server, RemoteServer]:
    return await federation.start(**sections), await federation.remote()


def multipart(body: bytes, head: str = "Content-Type: text/plain", boundary: str = "b") -> web.Response:
    text = (
        (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n{head}\r\n\r\n"
        ).encode()
        + body
        + f"\r\n--{boundary}--\r\n".encode()
    )
    return raw(text, f'multipart/mixed; boundary="{boundary}"')


def raw(body: bytes, content_type: str, **headers: str) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": content_type, **headers})


async def test_two_servers_give_each_other_files(federation: Federation) -> None:
    """FED-39, MEDIA-16."""
    one, two = await federation.start(), await federation.start()
    alice, bob = await one.register("alice"), await two.register("bob")
    body = bytes(range(256)) * 4_000
    for content, kind, name in ((body, "application/pdf", "Tee für zwei.pdf"), (b"", "text/plain", "a.txt")):
        told = await alice.exchange(
            "POST",
            "/_matrix/media/v3/upload",
            data=content,
            headers={"Content-Type": kind},
            params={"filename": name},
        )
        media_id = told.json["content_uri"].rpartition("/")[2]
        for _ in range(2):
            got = await bob.exchange("GET", DOWNLOAD, one.name, media_id)
            assert (got.status, got.body) == (200, content)
            assert got.headers["content-type"] == kind
            assert name.partition(".")[0][:3] in got.headers["content-disposition"]


async def test_our_files_as_other_servers_get_them(federation: Federation) -> None:
    """FED-39."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    told = await alice.exchange(
        "POST",
        "/_matrix/media/v3/upload",
        data=picture("PNG", (64, 48)),
        headers={"Content-Type": "image/png"},
    )
    media_id = told.json["content_uri"].rpartition("/")[2]
    v1 = "/_matrix/federation/v1/media"
    for uri in (f"{v1}/download/{media_id}", f"{v1}/thumbnail/{media_id}?width=32&height=32&method=crop"):
        code, body, headers = await remote.fetch(here, uri)
        assert code == 200
        kind, _, boundary = headers["Content-Type"].partition("; boundary=")
        assert kind == "multipart/mixed"
        first, second = body.removeprefix(b"--" + boundary.encode() + b"\r\n").split(
            b"\r\n--" + boundary.encode() + b"\r\n"
        )
        assert first == b"Content-Type: application/json\r\n\r\n{}"
        head, _, picture_bytes = second.partition(b"\r\n\r\n")
        assert head.startswith(b"Content-Type: image/")
        assert b"Content-Disposition: inline" in head
        assert picture_bytes[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
        assert second.endswith(b"\r\n--" + boundary.encode() + b"--\r\n")
    for uri, expected in [
        (f"{v1}/download/unknown", 404),
        (f"{v1}/download/%2e%2e", 400),
        (f"{v1}/download/{media_id}?timeout_ms=-1", 400),
        (f"{v1}/thumbnail/{media_id}?width=0&height=1", 400),
        (f"{v1}/thumbnail/{media_id}", 400),
        (f"{v1}/thumbnail/unknown?width=1&height=1", 404),
    ]:
        assert (await remote.ask(here, "GET", uri))[0] == expected, uri


async def test_older_servers_are_asked_at_the_older_endpoint(federation: Federation) -> None:
    """MEDIA-16: on `M_UNRECOGNIZED`, with `allow_remote=false`; the name goes along."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    told = raw(b"old", "text/plain", **{"Content-Disposition": 'inline; filename="a b.txt"'})
    remote.answers("GET", OLD + "*", lambda _: told)
    got = await alice.exchange("GET", DOWNLOAD, remote.name, "abc")
    assert (got.status, got.body) == (200, b"old")
    assert 'filename="a b.txt"' in got.headers["content-disposition"]
    [asked] = remote.requests("GET", OLD + "*")
    assert asked.query["allow_remote"] == "false"
    assert len(remote.requests("GET", THEIRS + "abc")) == 1


@pytest.mark.parametrize("refusal", [400, 404, 405])
async def test_the_older_endpoint_is_asked_where_the_new_one_is_refused_without_a_word(
    federation: Federation, refusal: int
) -> None:
    """MEDIA-16: by a server of before, or by a proxy that does not let it through."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    remote.answers("GET", THEIRS + "*", lambda _: web.Response(status=refusal, text="what?"))
    remote.answers("GET", OLD + "*", lambda _: raw(b"old", "text/plain"))
    got = await alice.exchange("GET", DOWNLOAD, remote.name, "abc")
    assert (got.status, got.body) == (200, b"old")


async def test_a_file_that_lies_elsewhere_is_fetched_from_there(federation: Federation) -> None:
    """MEDIA-16: once, unsigned, and no further."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    asked: list[Asked] = []

    def cdn(request: Asked) -> web.Response:
        asked.append(request)
        return raw(
            b"elsewhere", "text/plain", **{"Content-Disposition": "attachment; filename*=utf-8''%C3%A4.txt"}
        )

    remote.answers("GET", "/cdn/file", cdn)
    remote.answers("GET", "/cdn/again", lambda _: web.Response(status=302, headers={"Location": "/cdn/file"}))
    remote.answers(
        "GET",
        "/cdn/packed",
        lambda _: raw(gzip.compress(b"x" * 10**6), "text/plain", **{"Content-Encoding": "gzip"}),
    )
    for media_id, path in (("good", "file"), ("again", "again"), ("packed", "packed"), ("none", "none")):
        location = f"Location: https://{remote.name}/cdn/{path}"
        remote.answers("GET", THEIRS + media_id, lambda _, head=location: multipart(b"", head))
    got = await alice.exchange("GET", DOWNLOAD, remote.name, "good")
    assert (got.status, got.body) == (200, b"elsewhere")
    assert "%C3%A4.txt" in got.headers["content-disposition"]
    assert "Authorization" not in asked[0].headers
    for media_id in ("again", "packed", "none"):
        await alice.get(DOWNLOAD, remote.name, media_id, expect=(502, "M_UNKNOWN"))


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/y", "http://user:pw@x/y", "//", "", "x" * 10_000]
)
async def test_what_leads_where_nobody_may_go_is_not_followed(federation: Federation, location: str) -> None:
    """MEDIA-16."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    remote.answers("GET", THEIRS + "*", lambda _: multipart(b"", f"Location: {location}"))
    await alice.get(DOWNLOAD, remote.name, "abc", expect=(502, "M_UNKNOWN"))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "no multipart": (b"file", "text/plain"),
    "no boundary": (b"--b\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b--", "multipart/mixed"),
    "other boundary": (b"--c\r\n\r\n{}\r\n--c\r\n\r\nx\r\n--c--", "multipart/mixed; boundary=b"),
    "one part": (b"--b\r\n\r\n{}\r\n--b--\r\n", "multipart/mixed; boundary=b"),
    "no end": (b"--b\r\n\r\n{}\r\n--b\r\n\r\nfile", "multipart/mixed; boundary=b"),
    "endless head": (b"--b\r\n" + b"X: y\r\n" * 100_000, "multipart/mixed; boundary=b"),
    "endless line": (b"--b\r\nX: " + b"y" * 500_000, "multipart/mixed; boundary=b"),
    "endless first part": (b"--b\r\n\r\n" + b"y" * 500_000, "multipart/mixed; boundary=b"),
    "head that is none": (
        b"--b\r\nnonsense\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b--",
        "multipart/mixed; boundary=b",
    ),
    "nothing": (b"", "multipart/mixed; boundary=b"),
    "empty boundary": (b"--\r\n\r\n{}\r\n--\r\n\r\nx\r\n----", 'multipart/mixed; boundary=""'),
    "long boundary": (b"", "multipart/mixed; boundary=" + "b" * 5_000),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_no_file_is_refused(federation: Federation, name: str) -> None:
    """FED-39: 502, nothing is kept, whatever comes."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    body, kind = HOSTILE[name]
    remote.answers("GET", THEIRS + "*", lambda _: raw(body, kind))
    await alice.get(DOWNLOAD, remote.name, "abc", expect=(502, "M_UNKNOWN"))


async def test_a_file_that_does_not_end_is_not_taken(federation: Federation) -> None:
    """MEDIA-08: 502 `M_TOO_LARGE`, with or without a length; memory does not grow with it."""
    here, remote = await both(federation, media={"max_upload": 100_000})
    alice = await here.register("alice")
    head = b"--b\r\n\r\n{}\r\n--b\r\n\r\n"
    sent = 0

    async def endless(_: Asked) -> web.Response:
        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            yield head
            while True:
                sent += 50_000
                yield b"x" * 50_000
                await asyncio.sleep(0)

        return web.Response(body=pieces(), headers={"Content-Type": "multipart/mixed; boundary=b"})

    remote.answers("GET", THEIRS + "endless", endless)
    remote.answers("GET", THEIRS + "large", lambda _: multipart(b"x" * 100_001))
    remote.answers("GET", THEIRS + "much", lambda _: multipart(b"x" * 10**6))
    remote.answers("GET", THEIRS + "fits", lambda _: multipart(b"x" * 100_000))
    for media_id in ("endless", "large", "much"):
        await alice.get(DOWNLOAD, remote.name, media_id, expect=(502, "M_TOO_LARGE"))
    assert sent < 30 * 10**6
    assert (await alice.exchange("GET", DOWNLOAD, remote.name, "fits")).status == 200


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (status(404, {"errcode": "M_NOT_FOUND", "error": ""}), (404, "M_NOT_FOUND")),
        (status(504, {"errcode": "M_NOT_YET_UPLOADED", "error": ""}), (504, "M_NOT_YET_UPLOADED")),
        (status(502, {"errcode": "M_TOO_LARGE", "error": ""}), (502, "M_TOO_LARGE")),
        (status(429, {"errcode": "M_LIMIT_EXCEEDED", "error": ""}), (502, "M_UNKNOWN")),
        (status(500, {}), (502, "M_UNKNOWN")),
    ],
)
async def test_errors_of_other_servers(federation: Federation, said: Any, expected: tuple[int, str]) -> None:
    """MEDIA-16."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    remote.answers("GET", THEIRS + "*", said)
    await alice.get(DOWNLOAD, remote.name, "abc", expect=expected)


async def test_whoever_is_not_logged_in_makes_us_ask_nobody(federation: Federation) -> None:
    """MEDIA-02: frozen endpoints give what is kept from before."""
    here, remote = await both(federation)
    remote.answers("GET", THEIRS + "*", lambda _: multipart(b"x"))
    await here.client.get("/_matrix/media/v3/download/{}/{}", remote.name, "abc", expect=(404, "M_NOT_FOUND"))
