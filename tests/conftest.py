"""What every test can ask for: PostgreSQL, a migrated database, a running server, servers in processes of their own.

One PostgreSQL serves the whole run, also with `pytest -n`: the first process starts it and tells the workers where.
"""

import asyncio
import gc
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from psycopg import conninfo

from homeserver.storage import migrate
from homeserver.storage.database import Database
from tests.support import postgres as support_postgres
from tests.support import server as support_server
from tests.support.federation import Federation
from tests.support.postgres import Postgres
from tests.support.process import HomeserverProcess
from tests.support.server import Server
from tests.support.transports import tell_whose
from tests.support.watchdog import Watchdog

StartServer = Callable[..., Awaitable[Server]]

Database.strict = True  # a task that takes a second connection fails its test

_resources = ExitStack()
_started: list[Postgres] = []
_numbers = count(1)
_watchdog = Watchdog()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--load", action="store_true", help="run the tests marked load too")
    parser.addoption("--explore", action="store_true", help="try examples that nobody has tried")


def pytest_configure(config: pytest.Config) -> None:
    # How fast the machine is, and what else it does, is nothing that a generated example shows. The examples are the same in each
    # run, so that a run fails of what was changed; new ones are looked for by those who ask for it.
    hypothesis.settings.register_profile(
        "any machine",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize=not config.getoption("--explore"),
    )
    hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in ("slow", "load"):
        if config.getoption(f"--{name}") or config.getoption("-m"):
            continue
        skip = pytest.mark.skip(reason=f"{name}: run with --{name}")
        for item in items:
            if item.get_closest_marker(name):
                item.add_marker(skip)


def pytest_sessionstart() -> None:
    # As the server does it; the library's own way of telling an exception takes a fifth of a second.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    _resources.enter_context(_watchdog.watching())
    tell_whose()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test in which a server holds up its event loop has failed, whatever it was told."""
    _watchdog.take()
    try:
        result = yield
    except pytest.fail.Exception as failure:
        if "Timeout" in str(failure):
            item.add_report_section("call", "tasks", _tasks())
        raise
    held = _watchdog.take()
    if held and not item.get_closest_marker("holds_loop"):
        pytest.fail("\n".join(map(str, held)), pytrace=False)
    return result


def _tasks() -> str:
    """What everything in this process waits for; the stack of its thread alone ends in the event loop."""
    text = io.StringIO()
    for loop in [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]:
        if not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.print_stack(file=text)
    return text.getvalue()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the first process of `pytest -n`, for each worker."""
    node.workerinput["postgres"] = _postgres().dsn


def pytest_unconfigure() -> None:
    _resources.close()


def _postgres() -> Postgres:
    if not _started:
        _started.append(_resources.enter_context(support_postgres.started()))
    return _started[0]


# ------------------------------------------------------------------------------------------------------- databases


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Postgres:
    """The PostgreSQL of this run."""
    given = getattr(request.config, "workerinput", {}).get("postgres")
    return Postgres(given) if given else _postgres()


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """`gw0`, `gw1`, … under `pytest -n`; `main` else. Part of the name of every database a test makes."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres, worker: str) -> str:
    """The name of a database with our schema and nothing in it, to be copied; nobody is connected to it."""
    name = f"template_{worker}"
    migrate.apply(postgres.create(name))
    return name


@pytest.fixture
async def database(postgres: Postgres, worker: str, migrated_template: str) -> AsyncIterator[str]:
    """The connection string of a fresh database with our schema, dropped after the test."""
    name = f"test_{worker}_{next(_numbers)}"
    yield await asyncio.to_thread(postgres.create, name, template=migrated_template)
    await postgres.drop_meanwhile(name)


# --------------------------------------------------------------------------------------------------------- servers


def patient(dsn: str) -> str:
    """As `dsn`; who connects waits for as long as a busy machine may take, as long as it is there at all."""
    return conninfo.make_conninfo(dsn, connect_timeout=60)


@pytest.fixture(scope="session")
async def server(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """The real homeserver in this process; all tests of the worker share it, each with users and rooms of its own.

    `ATRIUM_TEST_URL` names another one instead, so that a test can be tried on a homeserver nobody here wrote.
    """
    if elsewhere := os.environ.get("ATRIUM_TEST_URL"):
        running = Server(elsewhere)
        yield running
        await running.close()
        return
    dsn = patient(postgres.create(f"shared_{worker}", template=migrated_template))
    async with support_server.run(dsn, tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture(scope="session")
def watchdog() -> Watchdog:
    """Over the event loop of the servers in this process."""
    return _watchdog


@pytest.fixture
async def start_server(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StartServer]:
    """Starts further homeservers, each on a fresh database: `await start_server(registration={"guests": True})`."""
    async with AsyncExitStack() as stack:

        async def start(**sections: Any) -> Server:
            name = f"server_{worker}_{next(_numbers)}"
            dsn = patient(await asyncio.to_thread(postgres.create, name, template=migrated_template))
            stack.push_async_callback(postgres.drop_meanwhile, name)
            folder = tmp_path_factory.mktemp(name)
            return await stack.enter_async_context(support_server.run(dsn, folder, **sections))

        yield start


@pytest.fixture
async def federation(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path: Path
) -> AsyncIterator[Federation]:
    """Starts servers that federate over TLS on the loopback address; see tests/support/federation.py."""
    async with AsyncExitStack() as stack:

        def new_database() -> str:
            name = f"federation_{worker}_{next(_numbers)}"
            dsn = patient(postgres.create(name, template=migrated_template))
            stack.push_async_callback(postgres.drop_meanwhile, name)
            return dsn

        yield Federation(tmp_path, new_database, stack)


@pytest.fixture
async def fresh_server(start_server: StartServer) -> Server:
    """A homeserver nobody has used before, for tests that count or list what all users share."""
    return await start_server()


@pytest.fixture(scope="session")
async def two_servers_processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One homeserver in two processes behind one port, as `atrium serve --processes 2` starts it."""
    with HomeserverProcess(tmp_path_factory.mktemp("two") / "data", processes=2) as process:
        process.start()
        running = support_server.of_process(process)
        yield running
        await running.close()
