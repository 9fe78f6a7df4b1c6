"""A push gateway to the specification: it checks what it is told, and remembers it.

async with FakeGateway() as gateway:
    await alice.post("/pushers/set", json=gateway.pusher("phone"))
    await gateway.hears(lambda g: g.badge("phone") == 1)

spec: push-gateway-api/ op:notify
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.process import free_port

PATH = "/_matrix/push/v1/notify"
_TEXTS = ("event_id", "room_id", "type", "sender", "sender_display_name", "room_name", "room_alias")
Notification = dict[str, Any]


def check(notification: Notification) -> None:
    """As the specification's schema has it."""
    for name in _TEXTS:
        assert isinstance(notification.get(name, ""), str), name
    assert ("event_id" in notification) == ("room_id" in notification)
    assert notification.get("prio", "high") in {"high", "low"}
    assert isinstance(notification.get("content", {}), dict)
    assert isinstance(notification.get("user_is_target", True), bool)
    for count in notification.get("counts", {}).values():
        assert type(count) is int
        assert count >= 0
    assert notification["devices"]
    for device in notification["devices"]:
        assert isinstance(device["app_id"], str)
        assert isinstance(device["pushkey"], str)
        assert type(device["pushkey_ts"]) is int
        assert "url" not in device["data"], "op:notify: without the url"
        assert isinstance(device.get("tweaks", {}), dict)


@dataclass
class FakeGateway:
    """A gateway. `answer` may answer in its own way: a status, or None for 200."""

    answer: Callable[[Notification], int | None] | None = None
    rejects: set[str] = field(default_factory=set)
    """Pushkeys it does not know any more."""
    slow: float = 0.0
    """Seconds before it answers."""
    host: str = "127.0.0.1"
    """The address of this machine that it answers at: gateways of another host are others."""
    port: int = field(default_factory=free_port)
    asked: int = 0
    """Requests, whatever became of them."""
    taken: list[Notification] = field(default_factory=list)
    """What it has answered with 200, in order."""
    faults: list[str] = field(default_factory=list)
    """What was not as the specification has it."""
    most_at_once: int = 0
    _at_once: int = 0
    _runner: web.AppRunner | None = None
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{PATH}"

    def pusher(self, pushkey: str, *, everything: bool = False, **fields: Any) -> dict[str, Any]:
        """The body of `/pushers/set`. `everything`: the format that tells all of an event."""
        data = {"url": self.url, "custom": {"a": 1}}
        return {
            "kind": "http",
            "app_id": "org.example.app",
            "pushkey": pushkey,
            "app_display_name": "App",
            "device_display_name": "Phone",
            "lang": "en",
            "data": data if everything else {**data, "format": "event_id_only"},
            **fields,
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        assert self.faults == []

    async def start(self) -> None:
        app = web.Application(client_max_size=2**20)
        app.router.add_post(PATH, self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, reuse_address=True, backlog=1024).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answered(await request.read())
        finally:
            self._at_once -= 1

    async def _answered(self, body: bytes) -> web.Response:
        self.asked += 1
        notification = json.loads(body)["notification"]
        try:
            check(notification)
        except (AssertionError, KeyError, TypeError) as fault:
            self.faults.append(f"{fault!r}: {notification}")
        await asyncio.sleep(self.slow)
        status = self.answer(notification) if self.answer is not None else None
        if status is not None and status != 200:
            return web.json_response({}, status=status)
        async with self._grown:
            self.taken.append(notification)
            self._grown.notify_all()
        keys = [device["pushkey"] for device in notification["devices"]]
        return web.json_response({"rejected": [key for key in keys if key in self.rejects]})

    # ------------------------------------------------------------------------------------------------ what it was told

    def of(self, pushkey: str) -> Sequence[Notification]:
        """What it was told for a device, in order."""
        return [each for each in self.taken if pushkey in {device["pushkey"] for device in each["devices"]}]

    def events(self, pushkey: str) -> list[str]:
        """The ids of events, each once, in order."""
        return list(dict.fromkeys(each["event_id"] for each in self.of(pushkey) if "event_id" in each))

    def badge(self, pushkey: str) -> int | None:
        """What the device shows: the count it was told last; None: it was told nothing."""
        told = self.of(pushkey)
        return told[-1]["counts"]["unread"] if told else None

    async def hears(self, holds: Callable[[FakeGateway], Any], *, within: float = 60.0) -> Any:
        """What `holds` returns as soon as that is true; AssertionError after `within` seconds."""
        try:
            async with asyncio.timeout(within), self._grown:
                while not (found := holds(self)):
                    await self._grown.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"the gateway never heard it: {self.taken[-5:]}") from None

    async def hears_event(self, event_id: str, *, within: float = 60.0) -> Notification:
        """The first notification of an event."""
        found = await self.hears(
            lambda g: next((each for each in g.taken if each.get("event_id") == event_id), None),
            within=within,
        )
        return dict(found)
