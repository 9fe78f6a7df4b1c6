"""The process fixture that other tests stand on: it starts, kills and restarts, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import reaper
from tests.support.process import HomeserverFailed, HomeserverProcess

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("ATRIUM_TEST_COMMAND")), reason="about our own server and its embedded database"
)
ABANDONS = """
import os, signal, sys
from pathlib import Path
from tests.support.process import HomeserverProcess
server = HomeserverProcess(Path(sys.argv[1])).start()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def register(server: HomeserverProcess, username: str) -> None:
    body = {"username": username, "password": "correct horse", "auth": {"type": "m.login.dummy"}}
    call(server, "register", body)


def call(server: HomeserverProcess, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{server.base_url}/_matrix/client/v3/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def wait_until_gone(pids: list[int], seconds: float = 20) -> list[int]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(psutil.pid_exists, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_killed_server_finds_its_data_again(tmp_path: Path) -> None:
    with HomeserverProcess(tmp_path / "data", processes=2) as server:
        server.start()
        register(server, "alice")
        workers, database = server.worker_pids(), reaper.embedded_databases(server.data)
        assert len(workers) >= 2
        assert len(database) == 1
        server.kill9()
        assert wait_until_gone(workers) == []
        server.start()
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}}
        assert call(server, "login", {**login, "password": "correct horse"})["user_id"] == "@alice:localhost"
        server.kill9_with_database()
        assert reaper.embedded_databases(server.data) == []
        server.start()
        assert call(server, "login", {**login, "password": "correct horse"})
        databases = [process.pid for process in reaper.embedded_databases(server.data)]
        assert server.terminate() == 0
        assert wait_until_gone(databases) == []


def test_an_abandoned_server_is_stopped_with_its_database(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run = subprocess.run(
        [sys.executable, "-c", ABANDONS, str(data)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    server = int(run.stdout)
    databases = [process.pid for process in reaper.embedded_databases(data)]
    assert wait_until_gone([server, *databases]) == []


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the data should be")
    with pytest.raises((HomeserverFailed, FileExistsError)):
        HomeserverProcess(tmp_path / "data").start()
    server = HomeserverProcess(tmp_path / "other", port=99999)
    with pytest.raises(HomeserverFailed, match="99999"):
        server.start()
    server.close()
