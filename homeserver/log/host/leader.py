"""The process that writes for all of its host: takes their appends, and tells them of everything that is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import psycopg
import structlog
from typing_extensions import override

from homeserver.log.entries import AlreadyDone, Append, Conflict, Entry, Position, TransactionId, Written
from homeserver.log.host.frames import (
    PROTOCOL,
    BrokenFrame,
    FrameReader,
    Hand,
    Hello,
    Jump,
    News,
    Refused,
    to_bytes,
)
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.storage.errors import StorageError

log = structlog.get_logger(__name__)

MAX_UNSENT = 32 * 1024 * 1024
"""Bytes that may wait for a process that does not take them; beyond it the process has to read the database."""


class Leader:
    """Owns the connections of the others. `told` is to be called with every batch that this process has applied."""

    def __init__(self, log_writer: LogWriter, tail: Tail, database: str) -> None:
        self._log = log_writer
        self._tail = tail
        self._database = database
        self._peers: set[Peer] = set()
        self._handed: dict[Position, tuple[bytes, bool]] = {}
        """Of the batch that is being written: whose an entry is, and whether it is as it was."""

    @property
    def peers(self) -> int:
        """How many processes are connected."""
        return len(self._peers)

    def connection(self) -> Peer:
        """The protocol of a new connection."""
        return Peer(self)

    def writing(self, accepted: Sequence[Append]) -> None:
        """These are about to be committed at their positions."""
        self._handed = {
            position: (append.origin + index.to_bytes(2), not append.changed)
            for append in accepted
            if append.origin
            for index, position in enumerate(append.positions)
        }

    def told(self, written: Sequence[Written[Any]]) -> None:
        """Tell everybody of a batch that this process has applied; without entries, that it has missed some."""
        if not self._peers:
            return
        if not written:
            jump = to_bytes(Jump(self._tail.position))
            for peer in list(self._peers):
                peer.send(jump)
            return
        packed: dict[Position, bytes | None] = {}
        for_all: bytes | None = None
        for peer in list(self._peers):
            brought = self._brought(peer)
            if brought or for_all is None:
                items = [self._item(each, peer, packed) for each in written]
                frame = to_bytes(News(written[0].position, items))
                for_all = for_all if brought else frame
            else:
                frame = for_all
            peer.send(frame)

    def _brought(self, peer: Peer) -> bool:
        """Whether something of the batch that was just written is this process's: it hears that in fewer words."""
        return any(origin.startswith(peer.process) for origin, _ in self._handed.values())

    def _item(
        self, written: Written[Any], peer: Peer, packed: dict[Position, bytes | None]
    ) -> tuple[str, bytes | None, bytes]:
        position, entry = written
        sink = self._tail.sink_of(type(entry))
        if sink is None:
            return "", None, b""
        origin, as_it_was = self._handed.get(position, (b"", False))
        if as_it_was and origin.startswith(peer.process):
            return sink.kind, b"", origin
        if position not in packed:
            packed[position] = sink.pack(entry, to_write=False)
        return sink.kind, packed[position], origin

    def close(self) -> None:
        """Let go of all connections, each when what it has handed over is decided."""
        for peer in list(self._peers):
            peer.cut()

    # --- for its connections -------------------------------------------------------------------------------------

    def greeted(self, peer: Peer, hello: Hello) -> None:
        """Raises `BrokenFrame` for a process that is not one of ours."""
        if hello.protocol != PROTOCOL or hello.database != self._database:
            raise BrokenFrame("another version, or another database")
        peer.process = hello.process
        peer.send(to_bytes(Hello(PROTOCOL, self._database, position=self._tail.position)))
        self._peers.add(peer)

    def gone(self, peer: Peer) -> None:
        """Its connection has ended. What it has handed over is written all the same."""
        self._peers.discard(peer)

    def add(self, hand: Hand) -> asyncio.Future[range]:
        """Queue what a process has handed over. Raises what speaks against it."""
        entries: list[Entry] = []
        for kind, payload in hand.entries:
            sink = self._tail.sink_named(kind)
            if sink is None:
                raise LookupError(kind)
            entries.append(sink.unpack(payload, 0))
        append = Append(entries, TransactionId(*hand.txn) if hand.txn else None)
        append.origin, append.may_follow = hand.origin, hand.may_follow
        return self._log.add(append)


class Peer(asyncio.Protocol):
    """One process that hands over. A connection is closed only when nothing it has brought is undecided: who sees its end
    then knows that nothing of theirs will be written any more.
    """

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self.process = b""
        """See `Hello.process`."""
        self._undecided = 0
        self._cut = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._leader.gone(self)

    @override
    def eof_received(self) -> bool:
        self.cut()
        return True  # `cut` closes it, in time

    @override
    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                if self._cut:
                    return
                self._take(frame)
        except BrokenFrame as error:
            log.warning("log.host_frame_broken", error=str(error))
            self.cut()

    def _take(self, frame: object) -> None:
        if isinstance(frame, Hand) and self._greeted:
            try:
                future = self._leader.add(frame)
            except Exception as error:  # noqa: BLE001  # that process writes it itself, and hears what is wrong with it
                self._refuse(frame.origin, error)
                return
            self._undecided += 1
            future.add_done_callback(partial(self._decided, frame.origin))
        elif isinstance(frame, Hello):
            self._leader.greeted(self, frame)
            self._greeted = True

    def _decided(self, origin: bytes, future: asyncio.Future[range]) -> None:
        self._undecided -= 1
        if future.cancelled():
            self._refuse(origin, None)
        elif (error := future.exception()) is not None:
            self._refuse(origin, error)
        if self._cut and not self._undecided and self._transport is not None:
            self._transport.abort()

    def _refuse(self, origin: bytes, error: BaseException | None) -> None:
        match error:
            case Conflict():
                refused = Refused(origin, "conflict")
            case AlreadyDone():
                refused = Refused(origin, "done", error.position)
            case None | psycopg.OperationalError() | StorageError() | OSError():
                refused = Refused(origin, "lost")
            case _:
                refused = Refused(origin, "here")
        self.send(to_bytes(refused))

    def send(self, data: bytes) -> None:
        """Send, unless too much waits already."""
        transport = self._transport
        if transport is None or self._cut:
            return
        if transport.get_write_buffer_size() > MAX_UNSENT:
            log.warning("log.host_process_too_slow", unsent=transport.get_write_buffer_size())
            self.cut()
            return
        transport.write(data)

    def cut(self) -> None:
        """Take and tell no more; close when everything it has brought is decided."""
        if self._transport is None or self._cut:
            return
        self._cut = True
        self._leader.gone(self)
        self._transport.pause_reading()
        if not self._undecided:
            self._transport.abort()
