"""What a handler is given: whom it answers, and what it can do about it.

Whatever is sent has a transaction id made of the event that is answered and of how much was sent before: a handler
that is begun again after a crash sends the same under the same ids, and the homeserver keeps what it has. So a
handler says the same when it is begun again; where it cannot (a language model), what was said first stays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appservices.bots import markup
from appservices.bots.client import Client
from appservices.bots.clock import Clock
from appservices.bots.errors import Unreachable
from appservices.bots.events import Event
from appservices.bots.state import State, StateLocks, scope_of
from appservices.bots.store import Buttons, Effects, Scheduled, Store
from appservices.bots.streams import MAX_EDITS, Stream, StreamOptions, Streams

TYPING_SECONDS: Final = 60.0
MAX_BUTTONS: Final = 20


@dataclass(frozen=True, slots=True)
class Services:
    """What contexts stand on; the same for all of a bot's."""

    client: Client
    store: Store
    clock: Clock
    streams: Streams
    locks: StateLocks
    msgtype: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What is answered. `id`: of the event, or of what was scheduled."""

    id: str
    room_id: str
    sender: str
    event: Event | None = None


class Context:
    """One answer."""

    def __init__(self, services: Services, origin: Origin, effects: Effects) -> None:
        self._services = services
        self._origin = origin
        self.effects = effects
        self._sent = 0
        self._held = contextlib.AsyncExitStack()
        self._states: tuple[State, State] | None = None

    @property
    def client(self) -> Client:
        """Everything else at the homeserver."""
        return self._services.client

    @property
    def room_id(self) -> str:
        return self._origin.room_id

    @property
    def sender(self) -> str:
        """Whom it is for."""
        return self._origin.sender

    @property
    def event(self) -> Event | None:
        """What is answered; None: something that was scheduled."""
        return self._origin.event

    @property
    def now_ms(self) -> int:
        return self._services.clock.now_ms()

    def next_txn(self) -> str:
        """The transaction id of what is sent next."""
        self._sent += 1
        return f"{self._origin.id}.{self._sent}"

    # --- saying --------------------------------------------------------------------------------------------------

    async def say(self, text: str, **extra: Any) -> str:
        """A message in the room, or in the thread the event is in; the event's id. `text`: Markdown; `extra`: further content."""
        return await self._send("m.room.message", self._message(text, self._thread(), extra))

    async def reply(self, text: str, **extra: Any) -> str:
        """As `say`, as an answer to the event, which mentions its sender. spec: client-server-api/#rich-replies"""
        relation: dict[str, Any] = dict(self._thread())
        if self.event is not None:
            relation["m.in_reply_to"] = {"event_id": self.event.event_id}
            relation.pop("is_falling_back", None)
        mentions = {"m.mentions": {"user_ids": [self.sender]}}
        return await self._send("m.room.message", self._message(text, relation, {**mentions, **extra}))

    async def reply_in_thread(self, text: str, **extra: Any) -> str:
        """As `say`, in the thread of the event, begun if there is none. spec: client-server-api/#threading"""
        relation = self._thread()
        if not relation and self.event is not None:
            relation = _in_thread(self.event.event_id, self.event.event_id)
        return await self._send("m.room.message", self._message(text, relation, extra))

    async def edit(self, event_id: str, text: str, **extra: Any) -> str:
        """Replace what the bot has said. spec: client-server-api/#event-replacements"""
        new = self._message(text, {}, extra)
        content = {
            **new,
            "body": f"* {text}",
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        return await self._send("m.room.message", content)

    async def react(self, key: str, event_id: str | None = None) -> str:
        """A reaction to the event, or to another."""
        target = event_id or (self.event.event_id if self.event is not None else "")
        relation = {"rel_type": "m.annotation", "event_id": target, "key": key}
        return await self._send("m.reaction", {"m.relates_to": relation})

    async def redact(self, event_id: str) -> str:
        return await self.client.redact(self.room_id, event_id, self.next_txn())

    async def dm(self, text: str, user_id: str | None = None) -> str:
        """A message in the direct conversation with the sender, or with another; the event's id."""
        txn_id = self.next_txn()
        room_id = await self.client.direct(user_id or self.sender)
        return await self.client.send(room_id, "m.room.message", self._message(text, {}, {}), txn_id)

    @contextlib.asynccontextmanager
    async def typing(self) -> AsyncIterator[None]:
        """As long as the block lasts, people see that an answer is being made."""
        await self.client.typing(self.room_id, seconds=TYPING_SECONDS)
        try:
            yield
        finally:
            await self.client.typing(self.room_id, seconds=0)

    # --- buttons -------------------------------------------------------------------------------------------------

    async def ask(self, text: str, buttons: Mapping[str, Any], *, name: str, data: Any = None) -> str:
        """A message with reactions to press; `@bot.button(name)` hears which. The event's id.

        `buttons`: emoji -> what the handler is told (JSON); `data`: what it is told, too. They last over restarts.
        """
        if not 0 < len(buttons) <= MAX_BUTTONS:
            raise ValueError(f"1 to {MAX_BUTTONS} buttons")
        event_id = await self.say(text)
        self._services.store.add_buttons(Buttons(event_id, self.room_id, name, dict(buttons), data))
        for key in buttons:
            await self.react(key, event_id)
        return event_id

    def close_buttons(self, event_id: str) -> None:
        """Nothing happens any more when one is pressed."""
        self.effects.closed.append(event_id)

    # --- streaming -----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def stream(
        self, first: str = "…", *, edits: int | None = None, msgtype: str = "m.text"
    ) -> AsyncIterator[Stream]:
        """An answer that grows while it is made: `await stream.write(piece)`. spec: MSC4471

        Who looks at it gets updates to their device; what is kept of it are two events, `first` and the whole. `edits`: how
        often it is edited, for clients that know no updates, at most 20. None: as often where the homeserver makes no
        device for the bot, else once, at the end.
        """
        options = StreamOptions(
            first, msgtype, None if edits is None else min(edits, MAX_EDITS), self._thread()
        )
        stream = await self._services.streams.begin(self.room_id, self.next_txn, options)
        try:
            yield stream
        except (Unreachable, asyncio.CancelledError):
            await self._services.streams.ended(stream)  # it is begun again, and ends then
            raise
        except Exception:
            await stream.end(failed=True)
            raise
        await stream.end()

    async def stream_all(self, pieces: AsyncIterable[str], **options: Any) -> str:
        """Say a text as it comes; the text."""
        async with self.stream(**options) as stream:
            async for piece in pieces:
                await stream.write(piece)
        return stream.text

    # --- remembering ---------------------------------------------------------------------------------------------

    async def room_state(self) -> State:
        """What the bot keeps of this room. No other handler has it until this one has ended."""
        return (await self._both())[0]

    async def user_state(self) -> State:
        """What the bot keeps of the sender, in whatever room. Likewise."""
        return (await self._both())[1]

    async def _both(self) -> tuple[State, State]:
        # Always the room's before the user's, so that two handlers never wait for each other.
        if self._states is None:
            scopes = scope_of("room", self.room_id), scope_of("user", self.sender)
            for scope in scopes:
                await self._held.enter_async_context(self._services.locks.of(scope))
            self._states = (
                State(self._services.store, self.effects, scopes[0]),
                State(self._services.store, self.effects, scopes[1]),
            )
        return self._states

    async def release(self) -> None:
        """The handler has ended, and what it has changed is written."""
        await self._held.aclose()

    # --- later ---------------------------------------------------------------------------------------------------

    def schedule(self, task: str, seconds: float, data: Any = None, *, key: str | None = None) -> str:
        """Have `@bot.task(task)` called in this room so many seconds from now, also if the bot is restarted meanwhile.

        `key`: names it, in place of what was scheduled under the same; else it is made of the event. Returns the name.
        """
        id_ = key or f"{self._origin.id}.task{len(self.effects.scheduled)}"
        due_ms = self.now_ms + int(seconds * 1000)
        self.effects.scheduled.append(Scheduled(id_, task, due_ms, self.room_id, self.sender, data))
        return id_

    def cancel(self, key: str) -> None:
        """What was scheduled under this name does not happen."""
        self.effects.cancelled.append(key)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _send(self, kind: str, content: Mapping[str, Any]) -> str:
        return await self.client.send(self.room_id, kind, content, self.next_txn())

    def _message(self, text: str, relation: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
        content = {**markup.content(text, self._services.msgtype), **extra}
        if relation:
            content["m.relates_to"] = dict(relation)
        return content

    def _thread(self) -> Mapping[str, Any]:
        if self.event is None or self.event.thread is None:
            return {}
        return _in_thread(self.event.thread, self.event.event_id)


def _in_thread(root: str, last: str) -> Mapping[str, Any]:
    return {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": last},
    }
