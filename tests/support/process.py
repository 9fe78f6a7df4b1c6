"""A homeserver in a process of its own, for tests that look at it from outside: real sockets, real signals.

    with HomeserverProcess(tmp_path / "data") as server:
        server.start()
        ...            # server.base_url
        server.kill9() # as the kernel would
        server.start() # same data, same port

Started as `atrium serve --dev`; `ATRIUM_TEST_COMMAND` names another program instead, with `{port}` and `{data}` to be
filled in, so that the same test can be tried on another homeserver.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psutil
from typing_extensions import override

from tests.support import reaper

_READY_PATH = "/_matrix/client/versions"


class HomeserverFailed(Exception):
    """The server ended, or did not answer in time; the text holds the end of its output."""


def free_port() -> int:
    """A loopback port that nobody listens on, below those the kernel gives to outgoing connections.

    A server that is killed and started again must find its port free, so it may not be one that a client's own
    connection could take in between. Nor one that was given to somebody who has not bound it yet: each worker of a run has ports
    of its own, and takes them in turn.
    """
    for _ in range(2000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            candidate = _FIRST + next(_steps) % _WIDTH
            probe.bind(("127.0.0.1", candidate))
            return candidate
    raise OSError("no free port between 20000 and 32000")


_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WIDTH = 12000 // _WORKERS
# One that has died is followed by one with a number of its own.
_FIRST = 20000 + _WIDTH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS)
_steps = itertools.count(int.from_bytes(os.urandom(2)))


class HomeserverProcess:
    """One homeserver on loopback: start, wait until it answers, kill it, start it again on the same data.

    Everything blocks; from a coroutine that has other things to do meanwhile, call through `asyncio.to_thread`.
    """

    def __init__(self, data: Path, *, port: int | None = None, processes: int = 1) -> None:
        self.data = data
        self.address = "127.0.0.1"
        self.port = port or free_port()
        self.processes = processes
        self.output = data.parent / f"{data.name}.output"
        self._output_before = 0
        """Bytes that were printed when it was last started."""
        self._process: subprocess.Popen[bytes] | None = None
        self._net = reaper.SafetyNet(data)

    @property
    def base_url(self) -> str:
        """Where clients reach it, without a slash at the end."""
        return f"http://{self.address}:{self.port}"

    @property
    def pid(self) -> int:
        """The process that was started; with several processes, the one above them. It leads the process group."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the started process still lives."""
        return self._process is not None and self._process.poll() is None

    def worker_pids(self) -> list[int]:
        """The processes below the one that was started, without the database's."""
        found: list[int] = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end between two looks
                if "postgres" not in process.name():
                    found.append(process.pid)
        return found

    def command(self) -> list[str]:
        """What is started."""
        template = os.environ.get("ATRIUM_TEST_COMMAND")
        if template:
            return [part.format(port=self.port, data=self.data) for part in shlex.split(template)]
        atrium = Path(sys.executable).with_name("atrium")
        arguments = ["--port", str(self.port), "--data", str(self.data), "--processes", str(self.processes)]
        return [str(atrium), "serve", "--dev", *arguments]

    def start(self, timeout: float = 60.0) -> Self:
        """Starts it and returns when it answers.

        Raises:
            HomeserverFailed: it ended, or `timeout` seconds passed.
        """
        assert not self.running, "already running"
        self.data.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._output_before = output.tell()
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._net.watch(self._process.pid)
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Returns when the server answers `GET /_matrix/client/versions` with 200; raises HomeserverFailed else."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise HomeserverFailed(f"the server ended while starting:\n{self.last_output()}")
            if self._answers():
                return
            time.sleep(0.02)
        raise HomeserverFailed(f"no answer after {timeout:g} s:\n{self.last_output()}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=5)
        try:
            connection.request("GET", _READY_PATH)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill9(self) -> None:
        """SIGKILL to all processes of the server at once. The kernel asks the embedded database to stop then."""
        reaper.kill_group(self.pid)
        self._ended()

    def kill9_with_database(self) -> None:
        """As if the power failed, but for what the kernel holds: the server and its database get SIGKILL."""
        databases = reaper.embedded_databases(self.data)
        self.kill9()
        for database in databases:
            reaper.kill_tree(database)
            with contextlib.suppress(psutil.NoSuchProcess):
                database.wait(10)

    def terminate(self, timeout: float = 40.0) -> int:
        """SIGTERM to the first process, as an init system does, and its exit status.

        Raises:
            HomeserverFailed: it still ran after `timeout` seconds; it is killed then.
        """
        assert self._process is not None, "the server was never started"
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise HomeserverFailed(
                f"still running {timeout:g} s after SIGTERM:\n{self.last_output()}"
            ) from None
        return self._ended()

    def restart(self, timeout: float = 60.0) -> Self:
        """Starts it again on the same data and port; ended in order before, if it runs."""
        if self.running:
            self.terminate()
        return self.start(timeout)

    def _ended(self) -> int:
        assert self._process is not None
        status = self._process.wait(60)
        self._net.watch(0)
        return status

    def last_output(self, lines: int = 60) -> str:
        """The end of what the server printed."""
        if not self.output.exists():
            return ""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def all_listen(self) -> bool:
        """Whether all its processes have begun to listen since the last start."""
        return "Atrium serves" in self.output_since_start()

    def output_since_start(self) -> str:
        """What the server has printed since it was last started."""
        return self.output.read_bytes()[self._output_before :].decode(errors="replace")

    def close(self) -> None:
        """Ends everything that was started here, the database included. Safe to call twice."""
        try:
            if self.running:
                self.terminate()
        finally:
            if self._process is not None:
                reaper.kill_group(self._process.pid)
            reaper.stop_databases(self.data)
            self._net.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ConfiguredProcess(HomeserverProcess):
    """A homeserver with a configuration of its own, on a database that is there already.

    `sections` are written to its configuration file; registration is open unless they say otherwise. `program` is started
    in place of `atrium`. `listener`: what is said of the listener. Several with `database={"shared": True}` and one
    `server={"signing_key_path": …}` are one server on several hosts.
    """

    def __init__(
        self,
        data: Path,
        dsn: str,
        *,
        program: Sequence[str] | None = None,
        processes: int = 1,
        listener: Mapping[str, Any] = MappingProxyType({}),
        **sections: Any,
    ) -> None:
        super().__init__(data, processes=processes)
        self.address = listener.get("address", self.address)
        self.program = tuple(program or (str(Path(sys.executable).with_name("atrium")),))
        self.config = data.parent / f"{data.name}.yaml"
        given: dict[str, dict[str, Any]] = {
            "server": {
                "name": "localhost",
                "data_dir": str(data),
                "processes": processes,
                "spread": "evenly",
            },
            "database": {"url": dsn},
            "registration": {"enabled": True, "flows": [["dummy"]], "open_without_checks": True},
        }
        raw: dict[str, Any] = {
            name: given.get(name, {}) | part for name, part in {**given, **sections}.items()
        }
        raw["listeners"] = [
            {
                "port": self.port,
                "resources": ["client", "metrics", "health"],
                "address": self.address,
                **listener,
            }
        ]
        self.config.write_text(json.dumps(raw))

    @override
    def command(self) -> list[str]:
        """What is started."""
        return [*self.program, "serve", "--config", str(self.config)]
