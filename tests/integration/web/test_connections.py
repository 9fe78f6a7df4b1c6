"""A connection between the socket and the dispatcher: many requests at once, bodies nobody reads, answers nobody fetches."""

import asyncio
import json

import pytest
from typing_extensions import override

from homeserver.web import connection as module
from homeserver.web import limits
from tests.integration.web.sample import C, Running
from tests.support.raw_http import ConnectionEndedError, RawConnection

ECHO = f"GET {C}/echo?limit=%d HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_more_requests_in_one_packet_than_may_wait_are_all_answered_in_order(web: Running) -> None:
    many = limits.MAX_PIPELINED * 5
    async with asyncio.timeout(10), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
        answer = await connection.send("".join(ECHO % number for number in range(many)).encode())
        for number in range(many):
            assert json.loads(answer.body)["values"]["limit"] == number
            if number < many - 1:
                answer = await connection.send(b"")


async def test_a_request_that_comes_in_single_bytes_is_answered(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    for byte in (ECHO % 7).encode():
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_what_comes_after_a_request_that_is_none_is_not_looked_at(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write((ECHO % 1).encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(b"nonsense\r\n\r\n" + (ECHO % 2).encode())
    async with asyncio.timeout(5):
        rest = await reader.read()
    assert rest.count(b"HTTP/1.1 ") == rest.count(b"HTTP/1.1 400") == 1
    assert rest.endswith(b'{"errcode":"M_UNKNOWN","error":"This is not a valid HTTP request"}')
    assert b"Connection: close\r\n" in rest
    writer.close()


async def test_a_request_to_speak_another_protocol_is_answered_in_this_one(web: Running) -> None:
    """RFC 9110, 7.8: a server may ignore it. What the client would say next is not HTTP, so nothing more is read."""
    asked = f"GET {C}/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    async with asyncio.timeout(5), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
        answer = await connection.send(asked + b"\x81\x05hello")
        assert answer.status == 200
        with pytest.raises(ConnectionEndedError):
            await connection.send(b"")


async def test_a_body_that_was_not_read_does_not_disturb_the_next_request(web: Running) -> None:
    """The answer (405) needs none of the body; half of it comes later than the answer."""
    body = b"x" * 200_000
    head = f"POST {C}/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with asyncio.timeout(5), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
        assert (await connection.send(head + body[:100])).status == 405
        answer = await connection.send(body[100:] + (ECHO % 3).encode())
        assert json.loads(answer.body)["values"]["limit"] == 3


class Stuck(asyncio.Transport):
    """A socket whose other end takes nothing: closing it waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.aborted = asyncio.Event()

    @override
    def close(self) -> None:
        self.closed = True

    @override
    def abort(self) -> None:
        self.aborted.set()


class ConnectionOwner:
    """See `connection.ConnectionOwner`."""

    keepalive = 120.0

    async def answer(self, *_: object) -> bool:
        raise AssertionError

    def opened(self, _: module.Connection) -> bool:
        return True

    def closed(self, _: module.Connection) -> None:
        """Nobody counts."""


async def test_a_client_that_does_not_fetch_its_last_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.05)
    socket, connection = Stuck(), module.Connection(ConnectionOwner())
    connection.connection_made(socket)
    connection.finish()
    async with asyncio.timeout(5):
        await socket.aborted.wait()
    assert socket.closed
