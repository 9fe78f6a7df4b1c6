"""Testing a bot without a server.

    async def test_it_answers() -> None:
        async with BotTest(bot) as test:
            [answer] = await test.say("!ping")
            assert answer.body == "pong"

The bot runs as it does in service, against a homeserver in memory (`fake_homeserver.py`). Time stands still until `advance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from typing_extensions import override

from appservices.bots.bot import Bot
from appservices.bots.client import Client
from appservices.bots.clock import Clock
from appservices.bots.events import Event, Message, Reaction, parse
from appservices.bots.fake_homeserver import FakeHomeserver
from appservices.bots.runner import Runner
from appservices.bots.store import Store
from appservices.bots.streams import CANCEL, SUBSCRIBE

SERVER: Final = "example.org"
ALICE: Final = f"@alice:{SERVER}"
DEVICE: Final = "BOTDEVICE"


class StandingClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @override
    def now_ms(self) -> int:
        return self._now_ms

    @override
    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_ms + int(seconds * 1000), next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move it; whoever wakes meanwhile has their turn at their time."""
        ends = self._now_ms + int(seconds * 1000)
        while due := [each for each in self._sleepers if each[0] <= ends and not each[2].done()]:
            first = min(due)
            self._now_ms = max(self._now_ms, first[0])
            self._sleepers.remove(first)
            first[2].set_result(None)
            await settle()
        self._sleepers = [each for each in self._sleepers if not each[2].done()]
        self._now_ms = ends
        await settle()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


class BotTest:
    """A bot in a room with Alice, who may say something to it."""

    def __init__(self, bot: Bot, *, streams: bool = True) -> None:
        """`streams` False: the homeserver makes no devices for bots."""
        self.bot = bot
        self.clock = StandingClock()
        self.server = FakeHomeserver(SERVER, self.clock, devices=streams)
        self.user_id = f"@{bot.name.lower().replace(' ', '-')}:{SERVER}"
        self.room_id = self.server.make_room(ALICE, [self.user_id])
        self._store = Store(None)
        self._numbers = itertools.count(1)
        self._stack = contextlib.AsyncExitStack()
        self.runner: Runner

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._store.close()

    async def _start(self) -> None:
        client = Client(self.server.as_user(self.user_id), self.user_id)
        self.runner = Runner(self.bot, client, self._store, self.clock)
        if await client.make_device(DEVICE, self.bot.name):
            self.runner.streams.device_id = DEVICE
        await self._stack.enter_async_context(self.runner.running())
        await settle()

    async def restart(self) -> None:
        """The bot ends, whatever it does, and starts again with what it has kept."""
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        await self._start()

    # --- what people do ------------------------------------------------------------------------------------------

    async def say(
        self, text: str, *, sender: str = ALICE, room: str | None = None, **content: Any
    ) -> list[Message]:
        """Somebody says something; what the bot says then, until it has nothing to do any more."""
        before = len(self.server.events)
        await self.send(
            "m.room.message", {"msgtype": "m.text", "body": text, **content}, sender=sender, room=room
        )
        return [event for event in self._of_bot(before) if isinstance(event, Message)]

    async def react(self, event_id: str, key: str, *, sender: str = ALICE) -> list[Message]:
        """Somebody reacts to an event; likewise."""
        before = len(self.server.events)
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        await self.send("m.reaction", {"m.relates_to": relation}, sender=sender)
        return [event for event in self._of_bot(before) if isinstance(event, Message)]

    async def send(
        self,
        kind: str,
        content: Mapping[str, Any],
        *,
        sender: str = ALICE,
        room: str | None = None,
        wait: bool = True,
    ) -> str:
        """Somebody sends an event; its id. `wait` False: not until it is answered."""
        event = self.server.add(room or self.room_id, sender, kind, content)
        await self.runner.receive(f"txn{next(self._numbers)}", {"events": [event]})
        if wait:
            await self.idle()
        return str(event["event_id"])

    async def invite(self, *, sender: str = ALICE) -> str:
        """Somebody invites the bot to a new room; the room's id."""
        room_id = self.server.make_room(sender, [])
        event = self.server.add(room_id, sender, "m.room.member", {"membership": "invite"}, self.user_id)
        await self.runner.receive(f"txn{next(self._numbers)}", {"events": [event]})
        await self.idle()
        return room_id

    async def subscribe(
        self, event_id: str, *, sender: str = ALICE, device: str = "PHONE", **options: Any
    ) -> None:
        """A device looks at an answer that grows; `updates` has what it is told."""
        content = {"room_id": self.room_id, "event_id": event_id, "subscriber_device_id": device, **options}
        message = {"type": SUBSCRIBE, "sender": sender, "content": content}
        await self.runner.receive(f"txn{next(self._numbers)}", {"to_device": [message]})
        await settle()

    async def idle(self, seconds: float = 5.0) -> None:
        """Returns when the bot has nothing to do; raises `TimeoutError` after so many real seconds."""
        async with asyncio.timeout(seconds):
            await self.runner.idle()

    async def advance(self, seconds: float) -> list[Message]:
        """Time goes by; what the bot says meanwhile."""
        before = len(self.server.events)
        await self.clock.advance(seconds)
        await self.idle()
        return [event for event in self._of_bot(before) if isinstance(event, Message)]

    # --- what the bot has done -----------------------------------------------------------------------------------

    @property
    def messages(self) -> list[Message]:
        """All it has said."""
        return [event for event in self._of_bot(0) if isinstance(event, Message)]

    @property
    def reactions(self) -> list[Reaction]:
        return [event for event in self._of_bot(0) if isinstance(event, Reaction)]

    def updates(self, device: str = "PHONE") -> list[Mapping[str, Any]]:
        """The updates of answers that a device was sent, in order."""
        return [
            each["content"]
            for each in self.server.to_device
            if each["device"] == device and each["type"] != CANCEL
        ]

    def _of_bot(self, since: int) -> Sequence[Event]:
        found = [parse(raw) for raw in self.server.events[since:] if raw["sender"] == self.user_id]
        return [event for event in found if event is not None]
