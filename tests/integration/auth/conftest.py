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
    """Shared by the tests of this folder."""
    name = f"identity_{worker}_{__name__.rpartition('.')[0].rpartition('.')[2]}"
    async with identity.run(postgres.create(name, template=migrated_template)) as running:
        yield running


@pytest.fixture
async def start(
    postgres: Postgres, worker: str, migrated_template: str, request: pytest.FixtureRequest
) -> AsyncIterator[StartIdentity]:
    """Starts servers of one's own; all that one test starts share a database of its own."""
    name = f"identity_{worker}_{next(_numbers)}_{abs(hash(request.node.nodeid))}"
    dsn = postgres.create(name, template=migrated_template)
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> IdentityServer:
            return await stack.enter_async_context(identity.run(dsn, **options))

        yield begin
    postgres.drop(name)
