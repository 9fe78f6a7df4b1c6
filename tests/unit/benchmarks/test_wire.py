"""The load generator's HTTP client against a server that answers in the ways real ones do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.wire import Connection, RequestFailed, Target


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[tuple[Connection, list[bytes]]]:
    """A server that answers every request with `pieces`, each in a packet of its own."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            seen.append(head)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = Connection(Target("127.0.0.1", server.sockets[0].getsockname()[1]))
        yield connection, seen
        connection.close()
        await asyncio.sleep(0)


async def test_a_body_with_a_length_is_read_and_the_connection_kept() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b'{"a', b'":1}') as (
        connection,
        seen,
    ):
        for _ in range(2):
            response = await connection.send(connection.target.request("GET", "/x", token="t"))
            assert (response.status, response.json()) == (200, {"a": 1})
        assert len(seen) == 2
        assert seen[0].startswith(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"Authorization: Bearer t\r\n" in seen[0]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_chunked_body_is_put_together_however_it_is_cut(size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\n\r\n"
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    async with answering(*pieces) as (connection, _):
        for _ in range(2):
            assert (await connection.send(connection.target.request("GET", "/"))).body == b"abcdefgh"


async def test_a_request_carries_its_body_and_its_length() -> None:
    request = Target("h", 80).request("PUT", "/y", body={"k": "v"})
    assert request.endswith(b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n" + b'{"k":"v"}')


async def test_an_answer_that_is_not_200_fails_with_the_request_and_the_answer() -> None:
    async with answering(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}") as (connection, _):
        with pytest.raises(RequestFailed, match=r"GET /z HTTP/1\.1: 403 b'\{\}'"):
            await connection.succeed(connection.target.request("GET", "/z"))


async def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as (
        connection,
        seen,
    ):
        for _ in range(2):
            assert (await connection.send(connection.target.request("GET", "/"))).status == 200
        assert len(seen) == 2


async def test_a_request_nobody_waits_for_any_longer_does_not_leave_its_answer_to_the_next() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n") as (connection, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.send(connection.target.request("GET", "/"))
        assert connection._transport is None


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://localhost:8008", Target("localhost", 8008)),
        ("https://example.org", Target("example.org", 443, tls=True)),
    ],
)
def test_addresses_are_understood(url: str, target: Target) -> None:
    assert Target.parse(url) == target


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not an http or https address"):
        Target.parse("localhost:8008")
