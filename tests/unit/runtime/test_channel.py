"""The socket between processes of a host: what is read when, and that nothing is lost at its end."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeserver.log.host import channel as channel_module
from homeserver.log.host.channel import Channel, Listener
from tests.support.outbound import until


class Heard:
    """What a channel tells."""

    def __init__(self) -> None:
        self.data = b""
        self.pieces = 0
        self.dozes = False
        self.over = asyncio.Event()

    def listener(self) -> Listener:
        return Listener(self._received, lambda: self.dozes, self.over.set)

    def _received(self, piece: bytes) -> None:
        self.data += piece
        self.pieces += 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen(1)
        listening.settimeout(60)
        yield listening


async def test_who_waits_for_nothing_hears_a_moment_later_and_all_at_once(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "DOZE", 1.0)
    heard = Heard()
    Channel(server.getsockname(), heard.listener())
    other, _ = server.accept()
    with other:
        heard.dozes = True
        other.sendall(b"first")
        await until(lambda: heard.data == b"first")
        for _ in range(5):
            other.sendall(b".")
            await asyncio.sleep(0)
        assert heard.data == b"first"
        await until(lambda: heard.data == b"first.....")
        assert heard.pieces == 2


async def test_who_asks_hears_at_once(server: socket.socket) -> None:
    heard = Heard()
    channel = Channel(server.getsockname(), heard.listener())
    other, _ = server.accept()
    with other:
        heard.dozes = True
        other.sendall(b"first")
        await asyncio.sleep(0.01)
        other.sendall(b" second")
        channel.read()
        assert heard.data == b"first second"
    await asyncio.wait_for(heard.over.wait(), 60)


async def test_what_was_said_before_the_end_is_heard_and_what_is_written_goes_whole(
    server: socket.socket,
) -> None:
    heard = Heard()
    channel = Channel(server.getsockname(), heard.listener())
    other, _ = server.accept()
    sent = b"x" * 3_000_000
    channel.write(sent)
    channel.write(b"y")
    channel.write_eof()

    def take() -> bytes:
        found = b""
        while piece := other.recv(100_000):
            found += piece
        other.sendall(b"last words")
        other.close()
        return found

    assert await asyncio.to_thread(take) == sent + b"y"
    await asyncio.wait_for(heard.over.wait(), 60)
    assert heard.data == b"last words"
    assert channel.closed
    channel.write(b"nobody hears it")


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Channel(str(tmp_path / "nobody"), Heard().listener())
