"""Bodies that cost more than they weigh: compressed ones, and JSON of many small values. Nobody else waits for their reading."""

import asyncio
import functools
import gzip
import time
import zlib

import pytest

from homeserver.web import limits
from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running
from tests.support.cpu import cpu_time
from tests.support.raw_http import RawConnection

TYPED = f"{C}/typed"
UPLOAD = "/_matrix/media/v3/upload"
BODY = b'{"name": "x"}'


def packed(data: bytes) -> bytes:
    """Always the same bytes: they are in the names of tests."""
    return gzip.compress(data, mtime=0)


def raw_deflate(data: bytes) -> bytes:
    press = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return press.compress(data) + press.flush()


@functools.cache
def bomb(megabytes: int) -> bytes:
    press = zlib.compressobj(9, wbits=31)
    return b"".join(press.compress(b" " * 2**20) for _ in range(megabytes)) + press.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", packed(BODY)),
        ("x-gzip", packed(BODY)),
        ("GZIP", packed(BODY[:5]) + packed(b"") + packed(BODY[5:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("gzip", packed(BODY + b" " * 900_000)),
        ("gzip", packed(BODY + b" " * 65_523)),
    ],
)
async def test_a_compressed_body_is_read(ask: Client, coding: str, body: bytes) -> None:
    """RFC 9110, 8.4."""
    status, answer = await ask("POST", TYPED, data=body, headers={"Content-Encoding": coding})
    assert (status, answer["values"]["name"]) == (200, "x")


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "gzip, gzip", "gzip, identity", "compress", "gzip;q=1", "\u00ff"]
)
@pytest.mark.parametrize("path", [TYPED, UPLOAD])
async def test_another_coding_is_refused_with_those_that_are_understood(
    ask: Client, coding: str, path: str
) -> None:
    """RFC 9110, 15.5.16. Nested codings multiply what a bomb makes."""
    answer = await ask.full("POST", path, data=packed(BODY), headers={"Content-Encoding": coding})
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "body",
    [packed(BODY)[:-1], packed(BODY) + b"junk", b"\x1f\x8b", b"junk", packed(BODY) * 17,
     packed(BODY + b" " * 100_000)[:-9]],
)  # fmt: skip
async def test_a_body_that_is_not_of_its_coding_is_a_bad_request(ask: Client, body: bytes) -> None:
    status, answer = await ask("POST", TYPED, data=body, headers={"Content-Encoding": "gzip"})
    assert (status, answer["errcode"]) == (400, "M_BAD_JSON")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "status"),
    [(TYPED, 413), (f"{C}/nothing", 200), (f"{C}/nowhere", 404), (f"{C}/echo", 405), (UPLOAD, 413),
     (f"{C}/act", 401), (f"{C}/form", 413)],
)  # fmt: skip
async def test_a_bomb_goes_off_nowhere(web: Running, path: str, status: int, chunked: bool) -> None:
    """A gigabyte in a megabyte: whatever reads it or does not, it is never taken apart beyond the bound."""
    web.api.upload_limit = 1_000_000
    packed = bomb(1024)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n".encode()
    if chunked:
        pieces = [packed[at : at + 50_000] for at in range(0, len(packed), 50_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        message = head + b"Transfer-Encoding: chunked\r\n\r\n" + body
    else:
        message = head + b"Content-Length: %d\r\n\r\n" % len(packed) + packed
    spent = time.process_time()
    async with asyncio.timeout(60), RawConnection(web.url) as connection:
        assert (await connection.send(message)).status == status
        answer = await connection.send(f"GET {C}/echo HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer.status == 200
    assert time.process_time() - spent < 1, "the whole gigabyte would take several seconds"


async def test_an_upload_is_taken_apart_piece_by_piece(web: Running, ask: Client) -> None:
    web.api.upload_limit = 10_000_000
    data = packed(bytes(range(256)) * 30_000)
    status, answer = await ask("POST", UPLOAD, data=data, headers={"Content-Encoding": "gzip"})
    assert (status, answer["values"]["size"]) == (200, 256 * 30_000)
    status, _ = await ask("POST", UPLOAD, data=data[:-5], headers={"Content-Encoding": "gzip"})
    assert status == 400


@pytest.mark.parametrize(
    "member", [b"{}", b"[]", b"1", b'""', b'{"a":1}', b"[[]]", b"null", b"1.7976931348623157e308"]
)
async def test_json_of_very_many_values_is_refused_before_it_is_read(ask: Client, member: bytes) -> None:
    """A decoder in C lets nobody else run until it is done."""
    body = b'{"name":"x","ignored":[' + b",".join([member] * (1_000_000 // (len(member) + 1))) + b"]}"
    few = b'{"name":"x","ignored":[' + b",".join([member] * 30_000) + b"]}"
    status, answer = await ask("POST", TYPED, data=body)
    if body.count(b",") > limits.MAX_VALUES:
        assert (status, answer["errcode"]) == (400, "M_BAD_JSON")
    else:
        assert status == 200
    assert (await ask("POST", TYPED, data=few))[0] == 200


@pytest.mark.parametrize(
    "member",
    [b"{}", b"[[]]", b'{"a":{}}', b"0.123456789012345678901234567890", b"12345678901234567890123", b'"\\u00e9"',
     b'"' + b"\\u00e9" * 100 + b'"', b'{"\\u00e9":1}'],
)  # fmt: skip
async def test_the_dearest_bodies_that_are_read_take_a_bounded_time(ask: Client, member: bytes) -> None:
    many = min(
        limits.MAX_VALUES // (1 + member.count(b"{") + member.count(b"[")), 1_000_000 // (len(member) + 1)
    )
    body = b'{"name":"x","ignored":[' + b",".join([member] * (many - 10)) + b"]}"
    seen = []
    for _ in range(3):
        with cpu_time() as spent:
            status, _ = await ask("POST", TYPED, data=body)
        assert status == 200
        seen.append(spent.seconds)
    assert min(seen) < 0.3, "some 50 ms, with the client's own"


async def test_a_form_is_small(ask: Client) -> None:
    data = b"a=" + b"%41" * 30_000
    assert (await ask("POST", f"{C}/form", data=data))[0] == 413


async def test_a_length_of_five_thousand_digits_is_a_number(web: Running) -> None:
    async with asyncio.timeout(60), RawConnection(web.url) as connection:
        head = (
            f"POST {TYPED} HTTP/1.1\r\nHost: a\r\nContent-Length: {'0' * 5_000}{len(BODY)}\r\n\r\n".encode()
        )
        answer = await connection.send(head + BODY)
        assert answer.status == 200
        head = (
            f"POST {TYPED} HTTP/1.1\r\nHost: a\r\nContent-Length: {'0' * 5_000}9{'0' * 15}\r\n\r\n".encode()
        )
        assert (await connection.send(head)).status == 413
