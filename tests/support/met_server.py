"""Fixtures: the server that programs from elsewhere meet. A `conftest.py` imports those it wants to have.

`ATRIUM_TEST_URL` names a running one instead of starting our own; `ATRIUM_TEST_COMMAND` starts another program
(see `tests.support.process`); `ATRIUM_TEST_PROCESSES` says in how many processes ours runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import HomeserverProcess


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HomeserverProcess | None]:
    """The server process of this run; None where somebody else's server is tested."""
    if os.environ.get("ATRIUM_TEST_URL"):
        yield None
        return
    data: Path = tmp_path_factory.mktemp("interop") / "data"
    processes = int(os.environ.get("ATRIUM_TEST_PROCESSES", "1"))
    with HomeserverProcess(data, processes=processes) as server:
        yield server.start()


@pytest.fixture
def base_url(own_server: HomeserverProcess | None) -> str:
    """Where the server is."""
    if own_server is None:
        return os.environ["ATRIUM_TEST_URL"].rstrip("/")
    if not own_server.running:  # an earlier test left it dead: no reason for this one to fail
        own_server.start()
    return own_server.base_url


@pytest.fixture
def killable(own_server: HomeserverProcess | None, base_url: str) -> HomeserverProcess:
    """The server process, where a test may kill it."""
    if own_server is None:
        pytest.skip("the server named by ATRIUM_TEST_URL is not ours to kill")
    return own_server
