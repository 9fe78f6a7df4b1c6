"""The disk is full: nothing acknowledged is lost, who reads goes on, `/health` tells, and it is over when there is room."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import HomeserverProcess
from tests.support.waiting import until_sync

PASSWORD = "correct horse battery staple"
SIZE = "192m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root and the right to mount: a small disk is a tmpfs here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Client:
    """Asks one server; the status, and the body as JSON."""

    def __init__(self, server: HomeserverProcess) -> None:
        self._server = server
        self._token = ""

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server.base_url + path, data, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def register(self, name: str) -> None:
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        self._token = self.ask("POST", "/_matrix/client/v3/register", body)[1]["access_token"]


def fill(path: Path) -> None:
    """Take every byte there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    assert shutil.disk_usage(path.parent).free == 0


def requests_logged(server: HomeserverProcess) -> list[str]:
    lines = server.output.read_text().splitlines()
    return [line for line in lines if '"event":"database_' in line]


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_was_acknowledged(small_disk: Path, tmp_path: Path) -> None:
    with HomeserverProcess(small_disk / "data") as server:
        server.output = tmp_path / "output"  # the log goes to another disk
        server.start()
        alice = Client(server)
        alice.register("alice")
        room = alice.ask("POST", "/_matrix/client/v3/createRoom", {})[1]["room_id"]
        since = alice.ask("GET", "/_matrix/client/v3/sync")[1]["next_batch"]
        sent: list[str] = []

        def send(transaction: str) -> int:
            path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}"
            body = {"msgtype": "m.text", "body": os.urandom(12_000).hex()}
            status, answer = alice.ask("PUT", path, body)
            if status == 200:
                sent.append(answer["event_id"])
            else:
                assert (status, "no room left" in answer["error"] or "not answer" in answer["error"]) == (
                    503,
                    True,
                )
            return status

        assert [send(f"before{number}") for number in range(20)] == [200] * 20
        fill(small_disk / "ballast")
        attempts = [send(f"full{number}") for number in range(40)]
        assert 503 in attempts

        status, health = alice.ask("GET", "/health")
        assert (status, health["status"], health["checks"]["disk"]) == (503, "unwell", "the disk is full")
        for presence in ("online", "unavailable"):
            path = f"/_matrix/client/v3/sync?since={since}&set_presence={presence}"
            assert alice.ask("GET", path)[0] == 200, (
                "presence that cannot be written keeps nobody from reading"
            )
        refusals = requests_logged(server)
        assert 0 < len(refusals) <= attempts.count(503) + 5
        assert all(len(line) < 600 for line in refusals), "no traceback for each"

        (small_disk / "ballast").unlink()
        until_sync(lambda: send("after") == 200, 60)
        until_sync(lambda: alice.ask("GET", "/health")[0] == 200, 60)
        for event_id in sent:
            assert alice.ask("GET", f"/_matrix/client/v3/rooms/{room}/event/{event_id}")[0] == 200
        assert server.terminate() == 0


@pytest.mark.slow
def test_a_server_does_not_start_on_a_full_disk_and_says_why(small_disk: Path, tmp_path: Path) -> None:
    with HomeserverProcess(small_disk / "data") as server:
        server.output = tmp_path / "output"
        server.start()
        assert server.terminate() == 0
        fill(small_disk / "ballast")
        done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        (small_disk / "ballast").unlink()
        server.start()
