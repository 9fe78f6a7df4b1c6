"""Behind a load balancer: a server that is asked to stop says so before it stops answering."""

import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from tests.support.process import ConfiguredProcess
from tests.support.waiting import until_sync

DRAIN = 6.0


def ask(server: ConfiguredProcess, path: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(server.address, server.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_it_serves_on_while_health_says_that_it_stops(database: str, tmp_path: Path, processes: int) -> None:
    with ConfiguredProcess(
        tmp_path / "data", database, processes=processes, limits={"drain": DRAIN}
    ) as server:
        server.start()
        assert ask(server, "/health")[0] == 200
        began = time.monotonic()
        stopping = threading.Thread(target=server.terminate)
        stopping.start()
        until_sync(lambda: ask(server, "/health")[0] == 503, within=5.0)
        for _ in range(10):  # any process may be the one that answers
            status, health = ask(server, "/health")
            assert (status, health["status"]) == (503, "stopping")
            assert ask(server, "/_matrix/client/versions")[0] == 200
        stopping.join()
        assert DRAIN <= time.monotonic() - began < DRAIN + 30
