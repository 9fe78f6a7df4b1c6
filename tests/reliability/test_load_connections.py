"""Clients that hold on to what they have: that never read, read slowly, or never finish a request. Others do not notice."""

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from benchmarks.people import Person
from tests.support.bystander import judge
from tests.support.load import Load, narrow_socket

pytestmark = pytest.mark.reliability

UNSENT = 128
"""Megabytes that may wait for clients in each process (`web/limits.py`); the pages under way come on top."""
MAKING = 150
"""Megabytes that a process may take for pages while they are made."""
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


@pytest.fixture
async def pages(load: Load) -> tuple[Person, str]:
    """Who may read a room, and the path of its pages: four megabytes, or fifty kilobytes for each message asked for."""
    owner = (await load.populate(10))[0]
    if "pages" not in load.rooms:
        room = load.rooms["pages"] = await owner.make_room()
        path = f"/rooms/{quote(room)}/send/m.room.message/page"
        bodies = [{"msgtype": "m.text", "body": os.urandom(25_000).hex()} for _ in range(100)]
        await load.gently(owner.request("PUT", f"{path}{n}", body) for n, body in enumerate(bodies))
    return owner, f"/rooms/{quote(load.rooms['pages'])}/messages?dir=b&limit="


@contextlib.asynccontextmanager
async def never_reading(load: Load, request: bytes, number: int) -> AsyncIterator[None]:
    """Connections that ask, and take nothing."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            sockets.append(narrow_socket(load.target, request))
            await asyncio.sleep(0.002)
        yield
    finally:
        for each in sockets:
            each.close()


async def read_steadily(load: Load, request: bytes, seconds: float) -> tuple[int, int]:
    """Take an answer at an even pace; bytes of body that came, and that were promised. Slower than `seconds` on a busy machine."""
    loop, narrow = asyncio.get_running_loop(), narrow_socket(load.target, request, buffer=16384)
    try:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(narrow, 4096)
        head, _, body = head.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, head
        promised, came = int(length[1]), len(body)
        while came < promised:
            piece = await loop.sock_recv(narrow, promised // int(seconds * 4))
            if not piece:
                break
            came += len(piece)
            await asyncio.sleep(0.25)
    except OSError:
        pass
    finally:
        narrow.close()
    return came, promised


async def drip(load: Load, request: bytes, every: float, seconds: float) -> float | None:
    """Send a request byte by byte; the seconds after which the server had enough, None if it had not."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    slow = narrow_socket(load.target, b"")
    try:
        for byte in request:
            await loop.sock_sendall(slow, bytes([byte]))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await loop.sock_recv(slow, 4096)
                    return time.monotonic() - began
            if time.monotonic() - began > seconds:
                return None
    except OSError:
        return time.monotonic() - began
    finally:
        slow.close()
    return None


async def test_three_hundred_never_read(load: Load, pages: tuple[Person, str]) -> None:
    owner, path = pages
    alone = await load.bystander.alone()
    asking = never_reading(load, owner.request("GET", f"{path}1000"), load.some(300))
    async with load.memory() as memory, load.bystander.watching() as during, asking:
        await asyncio.sleep(5)
    assert memory.grown < (UNSENT + MAKING) * load.process.processes
    judge(alone, during, times=10, worst=0.3)


async def test_a_hundred_read_slowly_and_are_not_cut_while_others_never_read(
    load: Load, pages: tuple[Person, str]
) -> None:
    """Longer than anybody may stand still; the others ask for more than may wait, and it is they who are cut off."""
    owner, path = pages
    number, seconds = load.some(100), 36 * max(load.share, 0.15)
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        readers = [
            asyncio.create_task(read_steadily(load, owner.request("GET", f"{path}20"), seconds))
            for _ in range(number)
        ]
        await asyncio.sleep(seconds / 6)
        async with never_reading(load, owner.request("GET", f"{path}1000"), load.some(300)):
            read = await asyncio.gather(*readers)
    cut = [came for came, promised in read if came < promised]
    assert not cut
    assert all(promised > 1_000_000 for _, promised in read)
    assert memory.grown < (UNSENT + MAKING) * load.process.processes
    judge(alone, during, times=10, worst=0.3)


async def test_two_hundred_never_finish_a_request(load: Load) -> None:
    """Heads that come byte by byte are given up after 15 s (`HEADER_SECONDS`); bodies as well, later."""
    number, seconds = load.some(100), 18 * load.share
    head = load.target.request("GET", "/_matrix/client/versions?" + "x" * 400)
    line = load.target.request("POST", "/_matrix/client/v3/login", body=b" " * 400)
    split = line.index(b"\r\n\r\n") + 4
    alone = await load.bystander.alone()
    async with load.memory() as memory, load.bystander.watching() as during:
        heads = [asyncio.create_task(drip(load, head, 0.25, seconds)) for _ in range(number)]
        bodies = [asyncio.create_task(drip_body(load, line, split, seconds)) for _ in range(number)]
        ended = await asyncio.gather(*heads)
        await asyncio.gather(*bodies)
    if load.share == 1:
        assert all(each is not None and each > 10 for each in ended), ended
    assert memory.grown < 30 * load.process.processes
    judge(alone, during, times=5, worst=0.3)


async def drip_body(load: Load, request: bytes, split: int, seconds: float) -> None:
    """The head at once, the body byte by byte."""
    loop, slow = asyncio.get_running_loop(), narrow_socket(load.target, request[:split])
    try:
        for _ in range(int(seconds * 4)):
            await loop.sock_sendall(slow, b" ")
            await asyncio.sleep(0.25)
    finally:
        slow.close()
