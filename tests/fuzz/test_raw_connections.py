"""Below HTTP's grammar: broken frames, lying lengths, endless headers, clients that stop in the middle."""

import asyncio
import gzip

import pytest

from tests.support.raw_http import ConnectionEndedError, RawAnswer, RawConnection
from tests.support.server import Server

HOST = b"Host: localhost\r\n"
LOGIN = b"POST /_matrix/client/v3/login HTTP/1.1\r\n" + HOST

# Nothing here is a request that can be carried out.
MALFORMED: dict[str, bytes] = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a word": b"hello\r\n\r\n",
    "an unknown version": b"GET /_matrix/client/versions HTTP/9.9\r\n" + HOST + b"\r\n",
    "spaces in the target": b"GET /_matrix/client/v3/sync ?x=1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a NUL in the target": b"GET /_matrix/client/\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw bytes in the target": b"GET /_matrix/client/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long target": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20_000 + b"\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: \x00\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "a strange method": b"G<>T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long method": b"G" * 10_000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a negative length": LOGIN + b"Content-Length: -1\r\n\r\n",
    "a length that is no number": LOGIN + b"Content-Length: ten\r\n\r\n{}",
    "two lengths": LOGIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": LOGIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks without sizes": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n\r\n",
    "a negative chunk": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "an enormous chunk": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "an unknown coding": LOGIN + b"Transfer-Encoding: martian\r\n\r\n{}",
    "an absurd length": LOGIN + b"Content-Length: 99999999999999999999\r\n\r\n{}",
}

# What stops before it is complete; the sender then hangs up.
UNFINISHED: dict[str, bytes] = {
    "nothing": b"",
    "half a request line": b"GET /_matr",
    "half a header": b"GET /_matrix/client/versions HTTP/1.1\r\nHo",
    "half a body": LOGIN + b'Content-Length: 1000\r\n\r\n{"type": ',
    "half a chunk": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",
    "no body after Expect": LOGIN + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
}


async def send(server: Server, message: bytes) -> RawAnswer | None:
    """The answer to these bytes; None when the server just hangs up."""
    async with asyncio.timeout(60), RawConnection(server.url) as connection:
        try:
            return await connection.send(message)
        except ConnectionEndedError:
            return None


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_message_is_refused_at_once(abused_server: Server, what: str) -> None:
    answer = await send(abused_server, MALFORMED[what])
    assert answer is None or 400 <= answer.status < 500 or answer.status == 505


@pytest.mark.parametrize("what", UNFINISHED)
async def test_a_client_that_hangs_up_halfway_disturbs_nobody(abused_server: Server, what: str) -> None:
    connections = [RawConnection(abused_server.url) for _ in range(20)]
    for connection in connections:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.send(UNFINISHED[what])
    await asyncio.gather(*(connection.close() for connection in connections))
    await abused_server.client.get("/_matrix/client/versions")


async def test_two_requests_in_one_packet_are_both_answered(abused_server: Server) -> None:
    request = b"GET /_matrix/client/versions HTTP/1.1\r\n" + HOST + b"\r\n"
    async with asyncio.timeout(60), RawConnection(abused_server.url) as connection:
        first = await connection.send(request + request)
        second = await connection.send(b"")
    assert first.status == second.status == 200


async def test_a_body_too_large_is_refused_before_it_is_read(abused_server: Server) -> None:
    """413 M_TOO_LARGE: by its length alone, and while it arrives in chunks."""
    declared = await send(abused_server, LOGIN + b"Content-Length: 300000000\r\n\r\n")
    assert declared is not None
    assert declared.status == 413
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    endless = await send(abused_server, LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40)
    assert endless is None or endless.status == 413


async def test_a_compressed_bomb_does_not_go_off(abused_server: Server) -> None:
    bomb = gzip.compress(b" " * 40_000_000, compresslevel=1)
    head = LOGIN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = await send(abused_server, head + bomb)
    assert answer is None or answer.status in (400, 413, 415)
