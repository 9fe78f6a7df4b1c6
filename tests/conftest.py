"""What every test can ask for: PostgreSQL, a migrated database, a running server, servers in processes of their own.

One PostgreSQL serves the whole run, also with `pytest -n`: the first process starts it and tells the workers where.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import postgres as support_postgres
from tests.support.postgres import Postgres

_resources = ExitStack()
_started: list[Postgres] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow") and not config.getoption("-m"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


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


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Postgres:
    """The PostgreSQL of this run."""
    given = getattr(request.config, "workerinput", {}).get("postgres")
    return Postgres(given) if given else _postgres()


@pytest.fixture(scope="session")
def worker_name(request: pytest.FixtureRequest) -> str:
    """`gw0`, `gw1`, … under `pytest -n`; `main` else. Part of the name of every database a test makes."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))
