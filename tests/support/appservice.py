"""An application service in a test: a registration, an HTTP server that remembers what it was told, and a client that acts.

async with FakeService(id="irc") as bridge:
    server = await start_server(appservices={"registration_files": [str(bridge.file(tmp_path))]})
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from tests.support.client import CheckedClient
from tests.support.process import free_port


@dataclass
class Told:
    """A request that the server made."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw: bytes


Answer = Callable[[Told], web.Response | None]


@dataclass
class FakeService:
    """A service. `answer` may answer a request in its own way; transactions it does not answer are taken."""

    id: str = "irc"
    sender: str = "ircbot"
    namespaces: dict[str, Any] = field(
        default_factory=lambda: {
            "users": [{"regex": "@_irc_.*", "exclusive": True}],
            "aliases": [],
            "rooms": [],
        }
    )
    options: dict[str, Any] = field(default_factory=dict)
    answer: Answer | None = None
    slow: float = 0.0
    """Seconds before it answers."""
    port: int = field(default_factory=free_port)
    told: list[Told] = field(default_factory=list)
    transactions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """(id, body) of those taken, in order, each id once."""
    _runner: web.AppRunner | None = None
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def as_token(self) -> str:
        return f"as-{self.id}-secret"

    @property
    def hs_token(self) -> str:
        return f"hs-{self.id}-secret"

    @property
    def sender_id(self) -> str:
        return f"@{self.sender}:localhost"

    @property
    def registration(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "url": f"http://127.0.0.1:{self.port}",
            "as_token": self.as_token,
            "hs_token": self.hs_token,
            "sender_localpart": self.sender,
            "namespaces": self.namespaces,
            **self.options,
        }

    def file(self, folder: Path) -> Path:
        """Writes the registration file."""
        path = folder / f"{self.id}.yaml"
        path.write_text(yaml.safe_dump(self.registration))
        return path

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        await asyncio.sleep(self.slow)
        body = json.loads(raw) if raw else None
        told = Told(
            request.method,
            request.raw_path.partition("?")[0],
            dict(request.query),
            dict(request.headers),
            body,
            raw,
        )
        self.told.append(told)
        answer = self.answer(told) if self.answer is not None else None
        if answer is not None:
            return answer
        if "/transactions/" in told.path:
            txn_id = told.path.rpartition("/")[2]
            async with self._grown:
                if txn_id not in {known for known, _ in self.transactions}:
                    self.transactions.append((txn_id, body))
                self._grown.notify_all()
            return web.json_response({})
        if told.path.endswith("/ping"):
            return web.json_response({})
        return web.json_response({"errcode": "M_NOT_FOUND"}, status=404)

    # ------------------------------------------------------------------------------------------------ what it was told

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events of all transactions, in order."""
        return self.all("events")

    def all(self, section: str) -> list[Any]:
        """The elements of a list that transactions have, in order."""
        return [each for _, body in self.transactions for each in body.get(section, [])]

    async def hears(self, holds: Callable[["FakeService"], Any], *, within: float = 60.0) -> Any:
        """What `holds` returns as soon as that is true; AssertionError after `within` seconds."""
        try:
            async with asyncio.timeout(within), self._grown:
                while not (found := holds(self)):
                    await self._grown.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"{self.id} never heard it: {self.transactions[-3:]}") from None

    async def hears_event(self, event_id: str, *, within: float = 60.0) -> dict[str, Any]:
        def find(service: "FakeService") -> Any:
            return next((event for event in service.events if event.get("event_id") == event_id), None)

        return dict(await self.hears(find, within=within))

    # ---------------------------------------------------------------------------------------------------- what it does

    async def register(self, client: CheckedClient, name: str) -> str:
        """Makes one of its users."""
        body = {"type": "m.login.application_service", "username": name, "inhibit_login": True}
        return str((await client.post("/register", json=body, token=self.as_token))["user_id"])

    def as_user(self, user_id: str, **params: Any) -> dict[str, Any]:
        """Options of a request that it makes as one of its users."""
        return {"token": self.as_token, "params": {"user_id": user_id, **params}}
