"""Servers for plays of many at once. They are shared: a play leaves them as it found them, but for people and rooms."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.load import Load
from tests.support.postgres import Postgres
from tests.support.process import ConfiguredProcess, HomeserverProcess

FEW, MANY = 0.1, 1.0


@contextlib.asynccontextmanager
async def started(process: HomeserverProcess, share: float) -> AsyncIterator[Load]:
    with process:
        await asyncio.to_thread(process.start)
        async with Load.on(process, share) as load:
            yield load


SERVERS = [
    pytest.param((2, FEW), id="few-2"),
    pytest.param((1, MANY), id="many-1", marks=pytest.mark.load),
    pytest.param((2, MANY), id="many-2", marks=pytest.mark.load),
]
"""Processes, and how many there are of what a play names."""


@pytest.fixture(scope="session", params=SERVERS)
async def load(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Load]:
    """As `atrium serve --dev` starts it."""
    processes, share = request.param
    data = tmp_path_factory.mktemp("load") / "data"
    async with started(HomeserverProcess(data, processes=processes), share) as load:
        yield load


@pytest.fixture(scope="session", params=SERVERS)
async def load_as_configured(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    worker: str,
    migrated_template: str,
) -> AsyncIterator[Load]:
    """With passwords that are as expensive to hash as on a server in use, and without limits of rates."""
    processes, share = request.param
    folder = tmp_path_factory.mktemp("configured")
    dsn = postgres.create(f"configured_{worker}_{folder.name}", template=migrated_template)
    limits = {"enabled": False}
    process = ConfiguredProcess(folder / "data", dsn, processes=processes, rate_limits=limits)
    async with started(process, share) as load:
        yield load
