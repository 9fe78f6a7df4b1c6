"""SIGHUP: what was agreed with partners is read again by all processes, also by those that start later; mistakes change nothing."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.process import ConfiguredProcess

ALL = 24
"""Requests on connections of their own: with two processes, one would have to be very lucky to get none."""


def until(what: Callable[[], bool], told: Callable[[], str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"it did not happen in time: {told()}"
        time.sleep(0.05)


class Alice:
    """Somebody who invites users of other servers."""

    def __init__(self, process: ConfiguredProcess) -> None:
        self._url = f"{process.base_url}/_matrix/client/v3"
        self._token = ""
        body = {"username": "alice", "password": "for a test", "auth": {"type": "m.login.dummy"}}
        self._token = self.post("/register", body)[1]["access_token"]
        self.room = self.post("/createRoom", {})[1]["room_id"]

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Connection": "close"}
        asked = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def is_refused(self, server: str) -> bool:
        """Of all processes that answer."""
        path = f"/rooms/{self.room}/invite"
        found = {self.post(path, {"user_id": f"@bob:{server}"})[0] == 403 for _ in range(ALL)}
        assert len(found) == 1, "the processes differ"
        return found.pop()


def test_partners_change_while_the_server_serves(database: str, tmp_path: Path) -> None:
    one, two = "localhost:1", "localhost:2"
    private = {"allow_private": {"federation": ["127.0.0.0/8", "::1/128"]}}
    open_ = {"rate_limits": {"enabled": False}, "outbound": private}
    with ConfiguredProcess(
        tmp_path / "data", database, processes=2, federation={"deny": [one]}, **open_
    ) as process:
        process.start()
        alice = Alice(process)
        assert alice.is_refused(one)
        assert not alice.is_refused(two)

        def change(text: str) -> None:
            process.config.write_text(text)
            os.kill(process.pid, signal.SIGHUP)

        def said(words: str, times: int) -> bool:
            return process.output_since_start().count(words) >= times

        raw = json.loads(process.config.read_text())
        raw["federation"] = {"deny": [two]}
        change(json.dumps(raw))
        until(lambda: said("federation.partners_reloaded", 2), process.last_output)
        assert alice.is_refused(two)
        assert not alice.is_refused(one)

        good = process.config.read_text()
        raw["federation"] = {"deny": [one], "partners": [{"server_name": "not a name", "pins": ["x"]}]}
        change(json.dumps(raw))
        until(lambda: said("federation.partners_not_reloaded", 2), process.last_output)
        assert said("federation.partners.0.server_name", 2)
        assert alice.is_refused(two)
        process.config.write_text(good)

        first, other = process.worker_pids()
        os.kill(first, signal.SIGKILL)
        until(lambda: len(set(process.worker_pids()) - {first, other}) == 1, process.last_output)
        process.wait_ready()
        time.sleep(1)
        assert alice.is_refused(two)
        assert not alice.is_refused(one)
        assert process.terminate() == 0
