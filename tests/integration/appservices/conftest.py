"""A server with one application service, which watches over users that begin with `_irc_`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.appservice import FakeService
from tests.support.server import Server


@dataclass
class Bridged:
    """A server and the services that run beside it."""

    server: Server
    services: list[FakeService]

    @property
    def bridge(self) -> FakeService:
        return self.services[0]


StartBridged = Callable[..., Awaitable[Bridged]]


@pytest.fixture
async def start_bridged(start_server: StartServer, tmp_path: Path) -> AsyncIterator[StartBridged]:
    """Starts services, and a server that has their registrations: `await start_bridged(FakeService(id="irc"))`."""
    async with AsyncExitStack() as stack:

        async def start(*services: FakeService, **sections: Any) -> Bridged:
            for service in services:
                await stack.enter_async_context(service)
            files = [str(service.file(tmp_path)) for service in services]
            appservices = {"registration_files": files, **sections.pop("appservices", {})}
            return Bridged(await start_server(appservices=appservices, **sections), list(services))

        yield start


@pytest.fixture
async def bridged(start_bridged: StartBridged) -> Bridged:
    """One service without options."""
    return await start_bridged(FakeService())
