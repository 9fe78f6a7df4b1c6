"""A connection between the socket and the dispatcher: many requests at once, bodies nobody reads, answers nobody fetches."""

import asyncio
import contextlib
import json
import re
import socket
import time

import pytest
from typing_extensions import override

from homeserver.web import connection as module
from homeserver.web import limits
from homeserver.web.stream import ClientTimeouts
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import ConnectionEndedError, RawConnection

ECHO = f"GET {C}/echo?limit=%d HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_more_requests_in_one_packet_than_may_wait_are_all_answered_in_order(web: Running) -> None:
    many = 80
    async with asyncio.timeout(60), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
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
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_body_that_comes_after_its_head_is_read_also_behind_another_request(web: Running) -> None:
    """The head came while nobody waited for it, and reading was paused: the body has to be read all the same."""
    first = f"POST {C}/write HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    head = f"POST {C}/optional HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n".encode()
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(first)
        await web.api.entered.wait()
        writer.write(head)
        await asyncio.sleep(0.05)
        writer.write(b"{}")
        await asyncio.sleep(0.05)
        web.api.proceed.set()
        for _ in range(2):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            told = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: ([0-9]+)", told, re.IGNORECASE)
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()


async def test_what_comes_after_a_request_that_is_none_is_not_looked_at(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write((ECHO % 1).encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(b"nonsense\r\n\r\n" + (ECHO % 2).encode())
    async with asyncio.timeout(60):
        rest = await reader.read()
    assert rest.count(b"HTTP/1.1 ") == rest.count(b"HTTP/1.1 400") == 1
    assert rest.endswith(b'{"errcode":"M_UNKNOWN","error":"This is not a valid HTTP request"}')
    assert b"Connection: close\r\n" in rest
    writer.close()


async def test_a_request_to_speak_another_protocol_is_answered_in_this_one(web: Running) -> None:
    """RFC 9110, 7.8: a server may ignore it. What the client would say next is not HTTP, so nothing more is read."""
    asked = f"GET {C}/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    async with asyncio.timeout(60), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
        answer = await connection.send(asked + b"\x81\x05hello")
        assert answer.status == 200
        with pytest.raises(ConnectionEndedError):
            await connection.send(b"")


async def test_a_body_that_was_not_read_does_not_disturb_the_next_request(web: Running) -> None:
    """The answer (405) needs none of the body; half of it comes later than the answer."""
    body = b"x" * 200_000
    head = f"POST {C}/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with asyncio.timeout(60), RawConnection(f"http://127.0.0.1:{web.port}") as connection:
        assert (await connection.send(head + body[:100])).status == 405
        answer = await connection.send(body[100:] + (ECHO % 3).encode())
        assert json.loads(answer.body)["values"]["limit"] == 3


async def test_a_body_goes_on_that_began_before_the_connection_was_at_work(web: Running) -> None:
    """What has come before the connection's task has run for the first time is a request that waits, like any other."""
    body = b"x" * 200_000
    head = f"POST {C}/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connections = web.web._open[0].connections
    made, socket = connections(), Stuck()
    made.connection_made(socket)
    made.data_received(head + body[:50_000])
    assert socket.paused
    while not socket.written:  # noqa: ASYNC110  # bytes have nothing to wait for
        await asyncio.sleep(0)
    assert not socket.paused
    for at in range(50_000, len(body), 50_000):
        made.data_received(body[at : at + 50_000])
        await asyncio.sleep(0)
    made.data_received((ECHO % 3).encode())
    async with asyncio.timeout(60):
        while socket.written.count(b"HTTP/1.1 ") < 2:  # noqa: ASYNC110  # bytes have nothing to wait for
            await asyncio.sleep(0)
    made.connection_lost(None)


class Stuck(asyncio.Transport):
    """A socket whose other end takes nothing: closing it waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self.paused = False
        self.aborted = asyncio.Event()
        self.written = b""

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    @override
    def is_closing(self) -> bool:
        return self.closed

    @override
    def pause_reading(self) -> None:
        self.paused = True

    @override
    def resume_reading(self) -> None:
        self.paused = False

    @override
    def get_write_buffer_size(self) -> int:
        return 1_000

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
    async with asyncio.timeout(60):
        await socket.aborted.wait()
    assert socket.closed


# --- how an answer ends, and for whom --------------------------------------------------------------------------------


async def test_over_http_1_0_an_answer_without_a_length_ends_with_the_connection(web: Running) -> None:
    """RFC 9112, 6.3: there are no chunks, so nothing else tells its end, whatever the client asked for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET {C}/streamed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
    async with asyncio.timeout(60):
        answer = await reader.read()
    assert b"Connection: close\r\n" in answer
    assert answer.endswith(b'"]')
    writer.close()


async def test_over_http_1_0_an_answer_with_a_length_keeps_the_connection(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    for _ in range(2):
        writer.write(f"GET {C}/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        async with asyncio.timeout(60):
            assert b"Connection: keep-alive\r\n" in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}}")
    writer.close()


async def test_a_whole_request_is_answered_although_what_follows_in_its_segment_is_none(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write((ECHO % 1).encode() + (ECHO % 2).encode() + b"BROKEN\r\n\r\n")
    async with asyncio.timeout(60):
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"400"]
    writer.close()


async def half_closed(web: Running, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(message)
    writer.write_eof()
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


async def test_who_has_closed_their_half_gets_the_answers(web: Running) -> None:
    """RFC 9112, 9.6."""
    answer = await half_closed(web, (ECHO % 1).encode() + (ECHO % 2).encode())
    assert answer.count(b"HTTP/1.1 200") == 2
    body = b'{"name": "%b"}' % (b"x" * 500_000)
    head = f"POST {C}/typed HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert b"HTTP/1.1 200" in await half_closed(web, head + body)
    web.api.proceed.set()
    assert b"HTTP/1.1 200" in await half_closed(web, f"POST {C}/write HTTP/1.1\r\nHost: a\r\n\r\n".encode())


async def test_who_has_closed_their_half_in_the_middle_of_a_request_gets_none(web: Running) -> None:
    assert not await half_closed(web, b"GET / HT")
    head = f"POST {C}/typed HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode()
    assert not await half_closed(web, head + b'{"name"')


async def test_nobody_waits_for_long_for_who_may_have_gone(
    web: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_SECONDS", 0.05)
    assert not await half_closed(web, f"GET {C}/wait HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await web.api.cancelled.wait()


async def test_a_head_that_comes_too_slowly_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)
    async with running() as web, asyncio.timeout(60):
        assert await trickled(web, b"") == b"", "a connection on which nothing comes"
        assert await trickled(web, b"GET / HTTP/1.1\r\n") == b""
        first = (ECHO % 1).encode()
        answer = await trickled(web, first + b"GET / HTTP/1.1\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1


async def trickled(web: Running, message: bytes) -> bytes:
    """What comes back for a message after which single bytes of a header follow, until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(message)
    rest = asyncio.create_task(_all(reader))
    if message:
        for _ in range(200):
            await asyncio.sleep(0.05)
            if rest.done():
                break
            writer.write(b"x")
    answer = await rest
    writer.close()
    return answer


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Until the end, or until the other side has noticed that we wrote after it."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(65_536):
            found += piece
    return found


async def test_an_idle_connection_stays_longer_than_a_head_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)
    async with running() as web, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        for number in range(2):
            writer.write((ECHO % number).encode())
            await reader.readuntil(b"}}")
            await asyncio.sleep(1.5)
        writer.close()


BIG = f"GET {C}/big?size=%d HTTP/1.1\r\nHost: a\r\n\r\n"


async def unread(web: Running, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client with small buffers that has asked for a large answer and not begun to read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", web.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=8192)
    writer.write((BIG % size).encode())
    return reader, writer


async def test_who_reads_steadily_gets_all_of_it_however_long_it_takes() -> None:
    size = 12_000_000
    async with running(timeouts=ClientTimeouts(stall=2.5, min_rate=1024)) as web:
        reader, writer = await unread(web, size)
        got, began = 0, time.monotonic()
        async with asyncio.timeout(60):
            while got < size:
                piece = await reader.read(100_000 if got < 6_000_000 else 1_000_000)
                assert piece
                got += len(piece)
                if got < 6_000_000:
                    await asyncio.sleep(0.01)
        assert time.monotonic() - began > 2.5, "it took longer than one may stand still"
        writer.close()


async def test_who_stands_still_is_cut_off() -> None:
    async with running(timeouts=ClientTimeouts(stall=0.2)) as web:
        reader, writer = await unread(web, 12_000_000)
        async with asyncio.timeout(60):
            while not web.lines:  # noqa: ASYNC110  # a list has nothing to wait for
                await asyncio.sleep(0.05)
        assert web.lines[0]["status"] == 499
        with contextlib.suppress(ConnectionError):
            while await reader.read(100_000):
                pass
        writer.close()


async def test_what_waits_for_all_clients_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNSENT_TOTAL", 40_000_000)
    async with running() as web, asyncio.timeout(60):
        clients = [await unread(web, 12_000_000) for _ in range(8)]
        while len(web.lines) < 5:  # noqa: ASYNC110  # a list has nothing to wait for
            await asyncio.sleep(0.05)
        assert {line["status"] for line in web.lines} == {499}
        reader, writer = clients[-1]
        got = 0
        while got < 12_000_000:
            piece = await reader.read(1_000_000)
            assert piece, "the newest has not stood still for long"
            got += len(piece)
        for _, writer in clients:
            writer.close()
