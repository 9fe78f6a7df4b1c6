"""Answering what comes in, once.

A transaction is acknowledged when its events are on the disk. Each event is handled, and marked as answered with what
its handler has changed. A process that ends in between begins the event again: what it sends then carries the same
transaction ids. Events of one sender in one room are answered one after the other; others do not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Final

from appservices.bots.bot import Bot
from appservices.bots.client import Client
from appservices.bots.clock import Clock
from appservices.bots.context import Context, Origin, Services
from appservices.bots.dispatch import Dispatcher
from appservices.bots.errors import Refused, Unreachable
from appservices.bots.events import Event, parse
from appservices.bots.state import StateLocks
from appservices.bots.store import Effects, Scheduled, Store, Waiting
from appservices.bots.streams import Streams

_log = logging.getLogger("atrium.bots")

AT_ONCE: Final = 32
"""Handlers under way at the same time."""
MAX_WAITING: Final = 10_000
"""Events that wait to be answered; beyond, the homeserver is asked to wait."""
MAX_BEGUN: Final = 50
"""How often an event is begun: one that ends the process each time is given up then."""
_PAUSE: Final = 5.0
"""Seconds until a handler is begun again that could not reach the homeserver."""
_LONGEST_SLEEP: Final = 3_600.0
Lane = tuple[str, str]
"""(room, sender)"""


class TooBusy(Exception):
    """So much waits that no more is taken."""


class Runner:
    """One bot at work."""

    def __init__(self, bot: Bot, client: Client, store: Store, clock: Clock) -> None:
        self.bot = bot
        self.client = client
        self.store = store
        self.clock = clock
        self.streams = Streams(client, clock)
        self._services = Services(client, store, clock, self.streams, StateLocks(), bot.msgtype)
        self._dispatcher = Dispatcher(bot, client, store)
        self._lanes: dict[Lane, deque[Waiting]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answers as long as the block lasts; what is under way then is begun again by the next process."""
        for handler in self.bot.handlers.get("start", ()):
            await handler(self.client)
        self._plan_repeated()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._spawn(self._keep_schedule(), "schedule")
            self._enqueue(self.store.waiting())
            try:
                yield
            finally:
                self._group = None
                for task in list(self._tasks):
                    task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._group is None:  # it ends, and what waits is begun by the next process
            work.close()
            return
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def receive(self, txn_id: str, body: Mapping[str, Any]) -> None:
        """A transaction: when this returns, its events are answered, sooner or later. Raises `TooBusy`."""
        if self.store.count_waiting() >= MAX_WAITING:
            raise TooBusy
        self._enqueue(self.store.accept(txn_id, _objects(body, "events")))
        for each in _objects(body, "to_device", "de.sorunome.msc2409.to_device"):
            kind, sender, content = each.get("type"), each.get("sender"), each.get("content")
            if isinstance(kind, str) and isinstance(sender, str) and isinstance(content, Mapping):
                await self.streams.hear(kind, sender, content)

    async def offer_streams(self, device_id: str) -> None:
        """Let devices subscribe to answers, as soon as it is seen that what is sent to this one comes here."""
        await self.streams.try_device(device_id)

    async def idle(self) -> None:
        """Returns when nothing waits to be answered."""
        await self._idle.wait()

    # --- events --------------------------------------------------------------------------------------------------

    def _enqueue(self, waiting: Sequence[Waiting]) -> None:
        for each in waiting:
            if each.event.get("type") == "m.room.encryption" and self.client.crypto is not None:
                self.client.crypto.note(str(each.event.get("room_id")))
            lane = str(each.event.get("room_id")), str(each.event.get("sender"))
            if lane in self._lanes:
                self._lanes[lane].append(each)
                continue
            self._lanes[lane] = deque([each])
            self._idle.clear()
            self._spawn(self._answer_all(lane), "lane")

    async def _answer_all(self, lane: Lane) -> None:
        queue = self._lanes[lane]
        while queue:
            async with self._turn:
                await self._answer(queue[0])
            queue.popleft()
        del self._lanes[lane]
        if not self._lanes:
            self._idle.set()

    async def _answer(self, waiting: Waiting) -> None:
        """Raises nothing but being cancelled."""
        if self.store.begin(waiting.number) > MAX_BEGUN:
            _log.error("an event was begun %d times and never answered; it is given up", MAX_BEGUN)
            self.store.answered(waiting.number, Effects())
            return
        while True:
            event = await self._opened(waiting.event)
            if event is None or event.sender == self.client.user_id:
                self.store.answered(waiting.number, Effects())
                return
            context = Context(
                self._services, Origin(event.event_id, event.room_id, event.sender, event), Effects()
            )
            try:
                await self._dispatch(context, event)
                self.store.answered(waiting.number, context.effects)
                if context.effects.scheduled:
                    self._wake.set()
            except Unreachable as error:
                _log.warning("the homeserver is away: %s", error)
                await self.clock.sleep(_PAUSE)
                continue
            finally:
                await context.release()
            return

    async def _opened(self, raw: Mapping[str, Any]) -> Event | None:
        if raw.get("type") != "m.room.encrypted" or self.client.crypto is None:
            return parse(raw)
        opened = await self.client.crypto.decrypt(raw)
        return None if opened is None else parse(opened, encrypted=True)

    async def _dispatch(self, context: Context, event: Event) -> None:
        """Raises `Unreachable` alone: whatever else a handler raises is its own end, told in the log."""
        try:
            await self._dispatcher.dispatch(context, event)
        except Unreachable:
            raise
        except Refused as refusal:
            _log.warning("refused while answering an event: %s", refusal.errcode)
            context.effects = Effects()
        except Exception:  # noqa: BLE001  # what one handler raises must not keep others from answering
            _log.exception("a handler has failed")
            context.effects = Effects()
            with contextlib.suppress(Refused):
                await self._dispatcher.apologise(context, event)

    # --- what is scheduled ---------------------------------------------------------------------------------------

    def _plan_repeated(self) -> None:
        for every in self.bot.every:
            id_ = f"repeat:{every.task}"
            if self.store.value("schedule", id_) != every.seconds:
                self.store.put("schedule", id_, every.seconds)
                self.store.put_scheduled(Scheduled(id_, every.task, self.clock.now_ms(), None, None, None))

    async def _keep_schedule(self) -> None:
        while True:
            following = self.store.next_due()
            wait = _LONGEST_SLEEP if following is None else (following.due_ms - self.clock.now_ms()) / 1000
            if following is None or wait > 0:
                await self._sleep(min(wait, _LONGEST_SLEEP))
            else:
                await self._do(following)

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until something else is scheduled."""
        sleeping = asyncio.ensure_future(self.clock.sleep(seconds))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, waking):
                task.cancel()
            self._wake.clear()

    async def _do(self, scheduled: Scheduled) -> None:
        handler = self.bot.tasks.get(scheduled.task)
        begun = self.store.begin_scheduled(scheduled)
        origin = Origin(
            f"{scheduled.id}@{scheduled.due_ms}", scheduled.room_id or "", scheduled.user_id or ""
        )
        context = Context(self._services, origin, Effects())
        try:
            if handler is not None and begun <= MAX_BEGUN:
                await handler(context, scheduled.data)
        except Unreachable:
            await self.clock.sleep(_PAUSE)
            return
        except Exception:  # noqa: BLE001  # likewise
            _log.exception("a task has failed")
            context.effects = Effects()
        finally:
            await context.release()
        context.effects.scheduled.extend(self._again(scheduled))
        self.store.done(scheduled, context.effects)

    def _again(self, scheduled: Scheduled) -> list[Scheduled]:
        """The next turn of a task that is repeated, on its own beat."""
        seconds = next(
            (each.seconds for each in self.bot.every if scheduled.id == f"repeat:{each.task}"), None
        )
        if seconds is None:
            return []
        beat = max(1, int(seconds * 1000))
        missed = max(0, self.clock.now_ms() - scheduled.due_ms) // beat
        return [scheduled._replace(due_ms=scheduled.due_ms + (missed + 1) * beat)]


def _objects(body: Mapping[str, Any], *names: str) -> list[Mapping[str, Any]]:
    """The objects of the first of these lists that there is."""
    for name in names:
        found = body.get(name)
        if isinstance(found, list):
            return [each for each in found if isinstance(each, dict)]
    return []
