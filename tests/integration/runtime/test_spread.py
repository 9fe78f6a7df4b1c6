"""Several processes of which as few serve as are enough; when that one is killed another serves."""

import http.client
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.cluster import all_serve, leader_of
from tests.support.process import ConfiguredProcess
from tests.support.waiting import until_sync

VERSIONS = "/_matrix/client/versions"


@pytest.fixture
def four(database: str, tmp_path: Path) -> Iterator[ConfiguredProcess]:
    with ConfiguredProcess(
        tmp_path / "data", database, processes=4, server={"spread": "as_needed"}
    ) as running:
        yield running.start()


def answered(server: ConfiguredProcess) -> Counter[str]:
    """How many such requests each worker has answered."""
    found = re.findall(r'"worker":(\d+).*?"route":"/_matrix/client/versions"', server.output_since_start())
    return Counter(found)


def who_answers(server: ConfiguredProcess, connections: list[http.client.HTTPConnection]) -> set[str]:
    """Which workers answer a request on each of these."""
    before = answered(server)
    for connection in connections:
        connection.request("GET", VERSIONS)
        assert connection.getresponse().read()
    until_sync(lambda: (answered(server) - before).total() >= len(connections))
    return set(answered(server) - before)


def test_one_answers_while_it_has_time_and_another_when_it_was_killed(four: ConfiguredProcess) -> None:
    until_sync(lambda: all_serve(four, 4))
    first = leader_of(four.data)
    assert first is not None
    with ExitStack() as stack:

        def connect() -> list[http.client.HTTPConnection]:
            made = [http.client.HTTPConnection(four.address, four.port, timeout=60) for _ in range(12)]
            return [stack.enter_context(closing(each)) for each in made]

        connections = connect()
        until_sync(lambda: len(who_answers(four, connections)) == 1)
        os.kill(first, signal.SIGKILL)
        until_sync(lambda: leader_of(four.data) not in {first, None})
        again = connect()
        until_sync(lambda: len(who_answers(four, again)) == 1)
