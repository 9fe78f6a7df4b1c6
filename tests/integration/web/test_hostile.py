"""What no proper client sends: every answer is a clean refusal, and the server goes on."""

import asyncio
import contextlib
import gzip
import io
import resource

import pytest

from homeserver.web.connections import connections_possible
from homeserver.web.listener import Listener
from homeserver.web.stream import ClientTimeouts
from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import RawConnection

SEND = f"{C}/rooms/!a:b/send/m.x/1"
ALICE = {"Authorization": "Bearer alice"}


@pytest.mark.parametrize("depth", [101, 500, 5_000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
async def test_a_depth_bomb_is_a_bad_body(ask: Client, depth: int, opening: bytes, closing: bytes) -> None:
    bomb = b'{"a":' + opening * depth + b"1" + closing * depth + b"}"
    if len(bomb) > 1_000_000:
        bomb = bomb[:1_000_000]
    status, answer = await ask("PUT", SEND, data=bomb, token="alice")
    assert (status, answer["errcode"]) in {(400, "M_BAD_JSON"), (400, "M_NOT_JSON")}
    status, answer = await ask("POST", f"{C}/typed", data=b'{"name": "x", "ignored": ' + bomb + b"}")
    assert status == 400


async def test_what_is_wide_but_not_deep_is_accepted(ask: Client) -> None:
    body = b'{"a":[' + b",".join([b'{"b":[]}'] * 5_000) + b"]}"
    assert (await ask("PUT", SEND, data=body, token="alice"))[0] == 200
    body = b'{"a":' + b"[" * 99 + b"]" * 99 + b"}"
    assert (await ask("PUT", SEND, data=body, token="alice"))[0] == 200


@pytest.mark.parametrize(
    "body",
    [b'{"a":' + b"9" * 10_000 + b"}", b'{"a":-' + b"9" * 5_000 + b"}", b'{"a":1e999999}', b'{"a":"\x00"}',
     b'{"\\ud800":1}', b'{"a":"\xed\xa0\x80"}', b"{" + b"\x00" * 100, b"\xff\xfe{\x00}\x00"],
)  # fmt: skip
async def test_numbers_and_text_that_json_does_not_have_are_refused(ask: Client, body: bytes) -> None:
    status, answer = await ask("PUT", SEND, data=body, token="alice")
    assert status == 400
    assert answer["errcode"] in {"M_NOT_JSON", "M_BAD_JSON"}


@pytest.mark.parametrize(
    "target",
    ["/" + "a/" * 5_000, "/" + "%2F" * 2_000, "/_matrix/client/v3/../v3/echo", "//echo", "/_matrix/client/v3/echo/",
     "/_matrix//client/v3/echo", "/%", "/%zz", "/_matrix/client/v3/rooms//state/m.x", "*", "/\xff\xfe", "/a b"],
)  # fmt: skip
async def test_strange_paths_are_clean_refusals(web: Running, target: str) -> None:
    async with RawConnection(web.url) as connection:
        answer = await connection.request("GET", target)
        assert answer.status in {400, 404}
        assert b'"errcode"' in answer.body


async def test_a_query_has_a_bounded_number_of_fields(ask: Client) -> None:
    status, answer = await ask("GET", f"{C}/echo?" + "&".join(["via=a"] * 300))
    assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")


async def test_an_absolute_target_is_read_as_its_path(web: Running) -> None:
    async with RawConnection(web.url) as connection:
        assert (await connection.request("GET", f"http://elsewhere.example{C}/echo?limit=3")).status == 200
        assert (await connection.request("GET", "http://elsewhere.example")).status == 404


@pytest.mark.parametrize(
    "message",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(500)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_answered_in_our_format_and_the_connection_closed(
    web: Running, message: bytes
) -> None:
    """API-01"""
    async with RawConnection(web.url) as connection:
        answer = await connection.send(message)
        assert answer.status == 400
        assert answer.body == b'{"errcode":"M_UNKNOWN","error":"This is not a valid HTTP request"}'
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["connection"] == "close"


async def test_a_chunked_body_beyond_the_limit_is_413(web: Running) -> None:
    """API-23"""
    async with RawConnection(web.url) as connection:
        head = f"POST {C}/typed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        chunks = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(20))
        answer = await connection.send(head + chunks + b"0\r\n\r\n")
        assert (answer.status, b"M_TOO_LARGE" in answer.body) == (413, True)


async def test_an_announced_body_beyond_the_limit_is_413_before_it_is_sent(web: Running) -> None:
    """API-23"""
    async with RawConnection(web.url) as connection:
        head = f"POST {C}/typed HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"
        assert (await connection.send(head.encode())).status == 413


async def test_a_compressed_body_is_measured_decompressed(ask: Client) -> None:
    bomb = gzip.compress(b"x" * 100_000_000, 9)
    status, answer = await ask(
        "POST", f"{C}/typed", data=io.BytesIO(bomb), headers={"Content-Encoding": "gzip"}
    )
    assert (status, answer["errcode"]) == (413, "M_TOO_LARGE")
    good = gzip.compress(b'{"name": "x"}')
    assert (await ask("POST", f"{C}/typed", data=good, headers={"Content-Encoding": "gzip"}))[0] == 200
    status, _ = await ask("POST", f"{C}/typed", data=b"no gzip", headers={"Content-Encoding": "gzip"})
    assert status == 400


@pytest.mark.parametrize(("coding", "status"), [("gzip", 400), ("deflate", 400), ("br", 415)])
async def test_a_body_that_is_not_what_it_says_is_no_accident_of_the_server(
    web: Running, coding: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with RawConnection(web.url) as connection:
        for _ in range(3):
            answer = await connection.request(
                "POST", f"{C}/typed", {"Content-Encoding": coding}, b"\xff" * 500
            )
            assert answer.status == status
        assert (await connection.request("POST", f"{C}/typed", {}, b'{"name": "x"}')).status == 200
    assert "Unhandled" not in caplog.text


async def test_an_upload_stops_at_the_limit_the_handler_sets(web: Running, ask: Client) -> None:
    web.api.upload_limit = 100_000
    status, answer = await ask("POST", "/_matrix/media/v3/upload", data=io.BytesIO(b"x" * 200_000))
    assert (status, answer["errcode"]) == (413, "M_TOO_LARGE")
    async with RawConnection(web.url) as connection:
        head = b"POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(3))
        assert (await connection.send(head + chunks + b"0\r\n\r\n")).status == 413


async def test_the_client_is_told_to_continue_only_if_its_body_is_wanted(web: Running) -> None:
    expect = "Host: a\r\nContent-Length: 13\r\nExpect: 100-continue\r\nAuthorization: Bearer alice\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"POST {C}/typed HTTP/1.1\r\n{expect}\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b'{"name": "x"}')
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    async with RawConnection(web.url) as connection:
        answer = await connection.send(
            f"POST {C}/act HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert answer.status == 401


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async with (
        running(timeouts=ClientTimeouts(stall=0.1, body=0.2)) as web,
        RawConnection(web.url) as connection,
    ):
        head = f"POST {C}/typed HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12"
        answer = await connection.send(head.encode())
        assert (answer.status, answer.headers["connection"]) == (408, "close")


async def test_a_header_that_does_not_arrive_is_given_up() -> None:
    async with running(keepalive=0.2) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


@pytest.mark.parametrize(
    "path", [f"{C}/teapot?header=a%0D%0AX-Evil:%201", "/_matrix/media/v3/file?name=a%0D%0Ab"]
)
async def test_a_header_cannot_be_split(ask: Client, path: str) -> None:
    answer = await ask.full("GET", path)
    assert answer.status == 500
    assert "x-evil" not in answer.headers


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with running(timeouts=ClientTimeouts(stall=0.2)) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024)
        writer.write(f"GET {C}/streamed?pieces=100000 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.wait_for(web.api.finished.wait(), 60)
        assert len(web.api.pieces) < 100_000
        writer.close()
        del reader


async def test_pipelined_requests_are_answered_in_order(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(b"".join(f"GET {C}/echo?limit={n} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for n in range(20)))
    for number in range(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert f'"limit":{number},'.encode() in await reader.readexactly(length)
    writer.close()


async def test_connections_beyond_the_limit_are_dropped_and_the_others_served() -> None:
    async with running(max_connections=5) as web:
        kept = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        for reader, writer in kept:
            writer.write(f"GET {C}/echo HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()


async def test_connections_of_one_client_are_bounded_and_come_free_again() -> None:
    async with running(max_per_client=3) as web, asyncio.timeout(60):
        kept = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        for reader, writer in kept:
            writer.write(f"GET {C}/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        async with RawConnection(web.url) as connection:
            assert (await connection.request("GET", f"{C}/echo")).status == 200


async def test_behind_a_proxy_the_requests_of_each_client_are_counted() -> None:
    listener = Listener(port=0, trusted_proxies=("127.0.0.0/8",))
    async with (
        running(listener, max_per_client=2) as web,
        asyncio.timeout(60),
        contextlib.AsyncExitStack() as stack,
    ):

        async def ask(path: str, client: str | None) -> int:
            connection = await stack.enter_async_context(RawConnection(web.url))
            forwarded = {} if client is None else {"X-Forwarded-For": client}
            return (await connection.request("GET", C + path, forwarded)).status

        waiting = [
            asyncio.create_task(ask("/wait", client))
            for client in ("2001:db8::1", "2001:db8::2", None, None, None)
        ]
        while web.metrics.in_flight < len(waiting):  # noqa: ASYNC110  # a number has nothing to wait for
            await asyncio.sleep(0.01)
        assert await ask("/echo", "2001:db8::3") == 429
        assert await ask("/echo", "2001:db8:0:1::1") == 200
        assert await ask("/echo", None) == 200, "the proxy itself"
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        await stack.aclose()
        waiting.clear()


def test_the_number_of_connections_fits_the_limit_of_open_files() -> None:
    assert 0 < connections_possible() < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
