"""A process that hands its appends to the leader of its host, and is told by it of everything that is written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from homeserver.log.entries import AlreadyDone, Append, Conflict, Entry, Position, Written
from homeserver.log.host.channel import Channel, Listener
from homeserver.log.host.frames import (
    Frame,
    FrameReader,
    Hand,
    Hello,
    Jump,
    News,
    Refused,
    to_bytes,
)
from homeserver.log.neighbours import Waiting
from homeserver.log.tail import Tail
from homeserver.storage.errors import OutcomeUnknown

log = structlog.get_logger(__name__)

MAX_HANDED = 2_000
"""Appends that may be with the leader; others wait here."""
MAX_HANDED_BYTES = 8 * 1024 * 1024
MAX_TOLD = 1_000
"""Frames that may wait to be applied; a process that is further behind reads the database."""


@dataclass(slots=True, eq=False)
class Handed:
    """An append that is with the leader."""

    append: Append
    future: asyncio.Future[range]
    size: int
    jumps: int
    """`Tail.jumps` when it was handed over."""
    entries: Sequence[Entry]
    positions: dict[int, Position] = field(default_factory=dict)
    """Place in the append -> position, of what is written."""

    def resolve(self) -> None:
        """All of it is written, and seen here."""
        first = self.positions[0]
        self.append.positions = range(first, first + len(self.entries))
        if not self.future.done():
            self.future.set_result(self.append.positions)

    def fail(self, error: Exception) -> None:
        """Its caller is told."""
        if not self.future.done():
            self.future.set_exception(error)


class HandedAppends:
    """What this process has handed over and does not know to be written, in order; across connections."""

    def __init__(self, tail: Tail, process: bytes) -> None:
        """`process`: 8 bytes that no other process has."""
        self._tail = tail
        self._process = process
        self._count = 0
        self._handed: dict[bytes, Handed] = {}
        self._written: list[bytes] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._handed)

    @property
    def full(self) -> bool:
        """Whether no more may be handed over now."""
        return len(self._handed) >= MAX_HANDED or self._bytes >= MAX_HANDED_BYTES

    def frame(self, waiting: Waiting) -> bytes | None:
        """An append as it is handed over, which it is from now on; None: it cannot be, its process must write it."""
        append, future = waiting
        packed = self._packed(append)
        if packed is None:
            return None
        self._count += 1
        origin = self._process + self._count.to_bytes(8)
        txn = append.txn
        flat = (txn.user_nid, txn.device_id, txn.scope, txn.txn_id) if txn else None
        data = to_bytes(Hand(origin, flat, packed, append.may_follow))
        self._handed[origin] = Handed(append, future, len(data), self._tail.jumps, append.entries)
        self._bytes += len(data)
        return data

    def _packed(self, append: Append) -> list[tuple[str, bytes]] | None:
        if append.alongside is not None or append.here or not append.entries:
            return None
        packed: list[tuple[str, bytes]] = []
        try:
            for entry in append.entries:
                sink = self._tail.sink_for(type(entry))
                payload = sink.pack(entry, to_write=True)
                if payload is None:
                    return None
                packed.append((sink.kind, payload))
        except Exception:  # its own process meets it again when it writes it, and tells its caller
            log.exception("log.host_not_packed")
            return None
        return packed

    def own(self, origin: bytes, position: Position, written: Entry | None) -> Written[Any] | None:
        """See `Neighbours.own`."""
        handed = self._handed.get(origin[:16])
        if handed is None:
            return None
        place = int.from_bytes(origin[16:])
        entry = handed.entries[place]
        self._tail.sink_for(type(entry)).adopt(entry, position, written)
        handed.positions[place] = position
        if len(handed.positions) == len(handed.entries):
            self._written.append(origin[:16])
        return Written(position, entry)

    def resolve(self) -> None:
        """Answer those of which all is written; to be called when it has been applied."""
        written, self._written = self._written, []
        for origin in written:
            handed = self.take(origin)
            if handed is not None:
                handed.resolve()

    def __contains__(self, origin: bytes) -> bool:
        return origin in self._handed

    def take(self, origin: bytes) -> Handed | None:
        """It is decided, or comes back."""
        handed = self._handed.pop(origin, None)
        if handed is not None:
            self._bytes -= handed.size
        return handed

    def take_all(self) -> list[Handed]:
        """All that are not decided, in order."""
        return [handed for origin in list(self._handed) if (handed := self.take(origin)) is not None]


class Link:
    """The connection to the leader."""

    def __init__(
        self,
        tail: Tail,
        handed: HandedAppends,
        hello: Hello,
        returned: Callable[[list[Waiting]], None],
        attentive: Callable[[], bool],
    ) -> None:
        """`returned`: called with appends that this process has to write itself, and whenever any were decided.
        `attentive`: whether somebody here waits for whatever is written.
        """
        self._tail = tail
        self._handed = handed
        self._hello = hello
        self._returned = returned
        self._attentive = attentive
        self._frames = FrameReader()
        self._channel: Channel | None = None
        self._told: deque[Frame] = deque()
        self._applying: asyncio.Task[None] | None = None
        self._greeted = False
        self.open = False
        """Whether the leader tells everything, and takes appends."""
        self.ended = asyncio.Event()
        """The leader has closed it, or died: what was handed over and not answered will not be written any more, unless it
        was already."""

    def connect(self, address: str) -> None:
        """Raises `OSError`."""
        self._channel = Channel(address, Listener(self._received, self._may_doze, self._over))
        self._channel.write(to_bytes(self._hello))

    def _over(self) -> None:
        self.open = False
        self._channel = None
        self.ended.set()

    def pull(self, position: Position) -> None:
        """Hear now what the leader has said; and, if that is not yet everything up to `position`, as soon as it says more."""
        if self._channel is not None:
            self._channel.read()
        if self._channel is not None and self._tail.position < position:
            self._channel.listen()

    def _may_doze(self) -> bool:
        """Whether nobody here waits for anything: what comes is heard a moment later, or when a request comes."""
        busy = self._handed or self._tail.awaited or self._applying is not None or not self.open
        return not busy and not self._attentive()

    def hand_over(self, waiting: deque[Waiting]) -> None:
        """Take from the front as much as can be handed over."""
        frames: list[bytes] = []
        while waiting and not self._handed.full:
            frame = self._handed.frame(waiting[0])
            if frame is None:
                break
            waiting.popleft()
            frames.append(frame)
        if frames and self._channel is not None:
            self._channel.listen()
            self._channel.write(b"".join(frames))

    def leave(self) -> None:
        """Say that no more comes: the leader closes it when it has decided everything."""
        self.open = False
        if self._channel is not None:
            self._channel.write_eof()

    # --- what it says --------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._hear(frame)
        except Exception as error:  # noqa: BLE001  # what cannot be understood can be read in the database
            log.warning("log.host_frame_broken", error=repr(error))
            self.leave()

    def _hear(self, frame: Frame) -> None:
        if isinstance(frame, Refused):
            self._refused(frame)
        elif self._applying is None and isinstance(frame, News) and self._apply(frame):
            return
        elif len(self._told) >= MAX_TOLD:
            log.warning("log.host_too_far_behind", frames=len(self._told))
            self.leave()
        else:
            self._told.append(frame)
            if self._applying is None:
                self._applying = asyncio.ensure_future(self._apply_waiting())

    def _apply(self, news: News) -> bool:
        """Take what is told, if that needs no waiting."""
        written = self._written(news)
        return written is not None and self._tail.offer(written)

    def _written(self, news: News) -> list[Written[Any]] | None:
        """The entries; None if one must be read from the database."""
        written: list[Written[Any]] = []
        for position, (kind, payload, origin) in enumerate(news.items, news.first):
            if payload is None:
                continue
            sink = self._tail.sink_named(kind)
            if sink is None:
                continue
            entry = sink.unpack(payload, position) if payload else None
            own = self._handed.own(origin, position, entry) if origin else None
            if own is not None:
                written.append(own)
            elif entry is not None:
                written.append(Written(position, entry))
        return written if len(written) == len(news.items) else None

    async def _apply_waiting(self) -> None:
        try:
            while self._told:
                await self._apply_slowly(self._told.popleft())
        except Exception:
            # What it misses is read from the database; what of ours was in it is looked for when this has ended.
            log.exception("log.host_frame_not_applied")
            self._told.clear()
            self.leave()
        finally:
            self._applying = None

    async def _apply_slowly(self, frame: Frame) -> None:
        if isinstance(frame, News):
            written = self._written(frame)
            if written is not None:
                await self._tail.take(written)
            else:
                await self._tail.catch_up(frame.first + len(frame.items) - 1)
            if any(origin[:16] in self._handed for _, _, origin in frame.items):
                self._handed.resolve()  # it was seen before
            if any(origin[:16] in self._handed for _, _, origin in frame.items):
                raise LookupError("entries of this process were missed")
        elif isinstance(frame, Jump):
            await self._tail.catch_up(frame.position)
        elif isinstance(frame, Hello):
            await self._tail.catch_up(frame.position)
            self.open = self._channel is not None
            self._returned([])

    def _refused(self, refused: Refused) -> None:
        handed = self._handed.take(refused.origin)
        if handed is None:
            return
        match refused.why:
            case "done":
                handed.fail(AlreadyDone(refused.position))
            case "lost":
                handed.fail(OutcomeUnknown("the database did not say whether this was written"))
            case "conflict" if handed.append.build_again is None:
                handed.fail(Conflict("what this was built on has changed"))
            case _:
                self._write_here(handed)
        self._returned([])

    def _write_here(self, handed: Handed) -> None:
        """Written by this process, under the lock, it is built again there, or meets what is wrong with it."""
        handed.append.here = True
        self._returned([(handed.append, handed.future)])
