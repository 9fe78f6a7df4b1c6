"""Fixtures for tests of accounts, authentication, devices, profiles, discovery; a conftest takes them over by name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest

from tests.support import identity
from tests.support.identity import IdentityServer
from tests.support.postgres import Postgres

StartIdentity = Callable[..., Awaitable[IdentityServer]]
_numbers = count(1)


@pytest.fixture(scope="package")
async def server(postgres: Postgres, worker: str, migrated_template: str) -> AsyncIterator[IdentityServer]:
    """Shared by the tests of a folder, each with users of its own."""
    name = f"identity_{worker}_{next(_numbers)}"
    async with identity.run(postgres.create(name, template=migrated_template)) as running:
        yield running
    postgres.drop(name)


@pytest.fixture
async def start(postgres: Postgres, worker: str, migrated_template: str) -> AsyncIterator[StartIdentity]:
    """Starts servers; all that one test starts share a database, as the processes of one server do."""
    name = f"identity_{worker}_{next(_numbers)}"
    dsn = postgres.create(name, template=migrated_template)
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> IdentityServer:
            return await stack.enter_async_context(identity.run(dsn, **options))

        yield begin
    postgres.drop(name)
