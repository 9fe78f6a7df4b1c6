"""Answers that grow while they are made, after MSC4471: a first message that names a stream, updates to the devices that
have subscribed, one edit at the end. What is kept of an answer are two events, however long it took.

Updates go to each subscriber in order: the next is sent when the last has been taken, with all that came meanwhile.
In encrypted rooms updates are encrypted with a key that stands in the first message, which is encrypted itself.

spec: MSC4471 (event streams), by its unstable names
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appservices.bots import markup
from appservices.bots.client import Client
from appservices.bots.clock import Clock
from appservices.bots.errors import Refused, Unreachable
from appservices.bots.sealing import ALGORITHM, Seal

PREFIX: Final = "org.matrix.msc4471.stream"
SUBSCRIBE, CANCEL, UPDATE = f"{PREFIX}.subscribe", f"{PREFIX}.cancel", f"{PREFIX}.update"
PROBE: Final = "io.atrium.bot.probe"
"""A message to the bot's own device: if it comes, so do subscriptions."""
ENCRYPTED: Final = "m.room.encrypted"
EXPIRY_MS: Final = 30 * 60 * 1000
MAX_EDITS: Final = 20
"""Of one answer, the last included: a thousand make a room that cannot be loaded."""
MAX_SUBSCRIBERS: Final = 100
"""Devices that are told of one answer."""
MAX_STREAMS: Final = 200
MAX_TEXT: Final = 200_000
"""Characters of one answer."""
PART: Final = 12_000
"""Characters of one message: what is longer is said in several, and with HTML beside it each stays below 64 KiB."""
_PAUSE: Final = 0.1
"""Seconds between updates."""
_FIRST_EDIT, _EDIT_FACTOR = 1.0, 1.3
"""Seconds until the first edit in between, and how much longer each takes than the one before."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How an answer is streamed; see `Context.stream`."""

    first: str
    msgtype: str
    edits: int | None
    relation: Mapping[str, Any]


@dataclass(slots=True)
class _Subscriber:
    """A device. `sent`: how much of the text it has; None: it wants the whole."""

    sent: int | None = None
    seq: int = 0


@dataclass(slots=True)
class Stream:
    """An answer under way; `write` what comes, `text` is all that came."""

    room_id: str
    event_id: str
    options: StreamOptions
    edits_left: int
    seal: Seal | None
    _streams: Streams
    _txn: str
    _txns: tuple[str, ...]
    text: str = ""
    subscribers: dict[tuple[str, str], _Subscriber] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _telling: asyncio.Task[None] | None = None
    _editing: asyncio.Task[None] | None = None

    async def write(self, piece: str) -> None:
        """The next piece. Waits for nobody; what exceeds `MAX_TEXT` is left out."""
        self.text = (self.text + piece)[:MAX_TEXT]
        self._changed.set()
        await asyncio.sleep(0)

    async def replace(self, text: str) -> None:
        """All of it anew."""
        self.text = text[:MAX_TEXT]
        for subscriber in self.subscribers.values():
            subscriber.sent = None
        await self.write("")

    async def end(self, *, failed: bool = False) -> None:
        """It is whole: the first message is edited, once. `failed`: what is there is all there will be."""
        await self._streams.ended(self)
        text = self.text if self.text or not failed else "…"
        parts = [text[start : start + PART] for start in range(0, len(text), PART)] or ["…"]
        await self._streams.edit(self, parts[0], self._txns[0])
        for part, txn in zip(parts[1:], self._txns[1:], strict=False):
            await self._streams.say(self, part, txn)

    def start(
        self, tell: Callable[[Stream], Awaitable[None]], edit: Callable[[Stream], Awaitable[None]]
    ) -> None:
        self._telling = asyncio.ensure_future(tell(self))
        if self.edits_left > 1:
            self._editing = asyncio.ensure_future(edit(self))

    async def stop(self) -> None:
        for task in (self._telling, self._editing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def until_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Streams:
    """All answers under way. `device_id` None: the homeserver makes no device for the bot, so nobody can subscribe."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self.device_id: str | None = None
        self._candidate: str | None = None
        self._active: dict[tuple[str, str], Stream] = {}

    async def try_device(self, device_id: str) -> None:
        """Use this device, once a message to it has come here."""
        self._candidate = device_id
        await self._quietly(self._client.to_device(PROBE, {self._client.user_id: {device_id: {}}}))

    async def begin(self, room_id: str, next_txn: Callable[[], str], options: StreamOptions) -> Stream:
        """Send the first message."""
        txn = next_txn()
        edits = options.edits if options.edits is not None else (0 if self.device_id else MAX_EDITS)
        crypto = self._client.crypto
        sealed = self.device_id is not None and crypto is not None and crypto.knows_encrypted(room_id)
        seal = Seal.new() if sealed else None
        content: dict[str, Any] = {"msgtype": options.msgtype, "body": options.first}
        if self.device_id is not None:
            content[PREFIX] = self._descriptor(seal)
        if options.relation:
            content["m.relates_to"] = dict(options.relation)
        event_id = await self._client.send(room_id, "m.room.message", content, txn)
        txns = tuple(next_txn() for _ in range(MAX_TEXT // PART + 1))
        stream = Stream(room_id, event_id, options, edits, seal, self, txn, txns)
        if self.device_id is not None and len(self._active) < MAX_STREAMS:
            self._active[room_id, event_id] = stream
        stream.start(self._tell, self._edit_in_between)
        return stream

    def _descriptor(self, seal: Seal | None) -> dict[str, Any]:
        found: dict[str, Any] = {"device_id": self.device_id, "expiry_ms": EXPIRY_MS}
        if seal is not None:
            found["encryption"] = {"algorithm": ALGORITHM, "key": seal.key_text}
        return found

    # --- subscribers ---------------------------------------------------------------------------------------------

    async def hear(self, kind: str, sender: str, content: Mapping[str, Any]) -> None:
        """A message to the bot's device. What is no business of streams is passed over."""
        if kind == PROBE and sender == self._client.user_id and self._candidate is not None:
            self.device_id = self._candidate
            return
        if kind == ENCRYPTED and content.get("algorithm") == ALGORITHM:
            opened = self._open(content)
            if opened is None:
                return
            kind, content = opened
        if kind not in {SUBSCRIBE, CANCEL}:
            return
        room_id, event_id, device = (
            content.get(key) for key in ("room_id", "event_id", "subscriber_device_id")
        )
        if not (
            isinstance(room_id, str) and isinstance(event_id, str) and isinstance(device, str) and device
        ):
            return
        stream = self._active.get((room_id, event_id))
        if kind == CANCEL:
            if stream is not None:
                stream.subscribers.pop((sender, device), None)
            return
        code = await self._subscribe(stream, sender, device, again=content.get("resync") is True)
        if code is not None:
            cancel = {"room_id": room_id, "event_id": event_id, "subscriber_device_id": device, "code": code}
            await self._quietly(self._client.to_device(CANCEL, {sender: {device: cancel}}))

    def _open(self, content: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
        for stream in self._active.values():
            if stream.seal is not None and stream.seal.id_of(stream.room_id, stream.event_id) == content.get(
                "stream_id"
            ):
                return stream.seal.open(content)
        return None

    async def _subscribe(
        self, stream: Stream | None, user_id: str, device: str, *, again: bool
    ) -> str | None:
        """The code of why not; None: it is told from now on."""
        if stream is None:
            return "m.unknown_stream"
        known = stream.subscribers.get((user_id, device))
        if known is None:
            if len(stream.subscribers) >= MAX_SUBSCRIBERS:
                return "m.limit_exceeded"
            member = await self._client.state(stream.room_id, "m.room.member", user_id)
            if member is None or member.get("membership") != "join":
                return "m.forbidden"
            stream.subscribers[user_id, device] = _Subscriber()
        elif again:
            known.sent = None
        await stream.write("")
        return None

    # --- telling -------------------------------------------------------------------------------------------------

    async def _tell(self, stream: Stream) -> None:
        while True:
            await stream.until_changed()
            kind, messages = self._updates(stream)
            if messages:
                await self._quietly(self._client.to_device(kind, messages))
            await self._clock.sleep(_PAUSE)

    def _updates(self, stream: Stream) -> tuple[str, dict[str, dict[str, Any]]]:
        """What each subscriber lacks: user -> device -> content."""
        messages: dict[str, dict[str, Any]] = {}
        for (user_id, device), subscriber in stream.subscribers.items():
            whole = subscriber.sent is None
            missing = stream.text if subscriber.sent is None else stream.text[subscriber.sent :]
            if not missing:
                continue
            subscriber.seq += 1
            subscriber.sent = len(stream.text)
            update: dict[str, Any] = {
                "room_id": stream.room_id,
                "event_id": stream.event_id,
                "seq": subscriber.seq,
                "op": "replace" if whole else "append",
                "content": {"body": missing},
            }
            if stream.seal is not None:
                update = stream.seal.close(UPDATE, update)
            messages.setdefault(user_id, {})[device] = update
        return (ENCRYPTED if stream.seal is not None else UPDATE), messages

    # --- edits ---------------------------------------------------------------------------------------------------

    async def _edit_in_between(self, stream: Stream) -> None:
        pause, shown = _FIRST_EDIT, ""
        for number in range(stream.edits_left - 1):
            await self._clock.sleep(pause)
            pause *= _EDIT_FACTOR
            if stream.text != shown:
                shown = stream.text
                await self._quietly(self.edit(stream, shown[:PART], f"{stream._txn}.edit{number}", live=True))  # noqa: SLF001  # its own

    async def edit(self, stream: Stream, text: str, txn: str, *, live: bool = False) -> None:
        """Replace the first message; `live`: the stream goes on."""
        new = markup.content(text, stream.options.msgtype)
        if live and self.device_id is not None:
            new[PREFIX] = self._descriptor(stream.seal)
        content = {
            **{key: value for key, value in new.items() if key != PREFIX},
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": stream.event_id},
        }
        await self._client.send(stream.room_id, "m.room.message", content, txn)

    async def say(self, stream: Stream, text: str, txn: str) -> None:
        """What has no room in the first message."""
        content = markup.content(text, stream.options.msgtype)
        if stream.options.relation:
            content["m.relates_to"] = dict(stream.options.relation)
        await self._client.send(stream.room_id, "m.room.message", content, txn)

    async def ended(self, stream: Stream) -> None:
        """Nobody is told any more."""
        self._active.pop((stream.room_id, stream.event_id), None)
        await stream.stop()

    async def _quietly(self, sending: Awaitable[object]) -> None:
        """What is only for the moment may be lost."""
        with contextlib.suppress(Refused, Unreachable):
            await sending
