"""A connected Unix socket that is read when something comes, or when somebody asks; and may be left alone for a moment.

A transport of the loop reads whenever something has come: each batch that any process writes would wake all the others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

PIECE = 256 * 1024
AT_ONCE = 16
"""Pieces that are read before others have a turn."""
DOZE = 0.02
"""Seconds in which what comes is left lying."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What a channel calls: with each piece; to ask whether it may be left alone for a moment; and once when it has ended."""

    received: Callable[[bytes], None]
    may_doze: Callable[[], bool]
    ended: Callable[[], None]


class Channel:
    """Owns the socket. To be used in the loop's thread alone."""

    def __init__(self, address: str, listener: Listener) -> None:
        """Connects at once. Raises `OSError`."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._descriptor = self._socket.fileno()
        self._unsent = bytearray()
        self._last = False
        """Nothing comes after what is unsent."""
        self._listens = False
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False
        self.listen()

    def listen(self) -> None:
        """Read what comes as it comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._listens and not self.closed:
            self._listens = True
            self._loop.add_reader(self._descriptor, self._readable)

    def read(self) -> None:
        """Read what has come."""
        for _ in range(AT_ONCE):
            if self.closed:
                return
            try:
                piece = self._socket.recv(PIECE)
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            if not piece:
                self.close()
                return
            self._listener.received(piece)
        # The loop may tell of the end only once: what is left is looked for.
        self._loop.call_soon(self.read)

    def write(self, data: bytes) -> None:
        """Send now, or as soon as the other side takes it."""
        if self.closed or self._last:
            return
        if not self._unsent:
            sent = self._send(data)
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._descriptor, self._writable)
        self._unsent += data

    def write_eof(self) -> None:
        """Nothing more is sent after what was."""
        self._last = True
        self.listen()
        if not self._unsent:
            self._end_sending()

    def close(self) -> None:
        """Idempotent; `ended` is called."""
        if self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.closed = True
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._socket.close()
        self._listener.ended()

    def _readable(self) -> None:
        self.read()
        if not self.closed and self._listener.may_doze():
            self._listens = False
            self._loop.remove_reader(self._descriptor)
            self._timer = self._loop.call_later(DOZE, self.listen)

    def _writable(self) -> None:
        del self._unsent[: self._send(self._unsent)]
        if not self._unsent and not self.closed:
            self._loop.remove_writer(self._descriptor)
            if self._last:
                self._end_sending()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # it has ended: what it said before that is read first
            self._loop.call_soon(self.read)
            return len(data)

    def _end_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._loop.call_soon(self.read)
