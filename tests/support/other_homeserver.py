"""A homeserver that nobody here wrote, in a process of its own: how each is started, killed, stopped and waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.reaper import SafetyNet

SECONDS_TO_START = 90
SECONDS_TO_STOP = 20
LAST_WORDS = 3_000
"""Characters of its output that an error shows."""


class OtherHomeserver(ABC):
    """`directory` has its files and, in `output.log`, what it has said. Its configuration is written before the first start."""

    name: ClassVar[str]

    def __init__(self, directory: Path, port: int) -> None:
        """`port`: of its listener for clients, on the loopback address."""
        self.directory = directory
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._net = SafetyNet(directory)

    @abstractmethod
    def command(self) -> list[str]:
        """What is started, in its directory."""

    def environment(self) -> Mapping[str, str]:
        """What it finds in its environment."""
        return os.environ

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process, for measuring."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Returns once it answers; again on the same data. Raises RuntimeError with its last words if it does not answer."""
        with (self.directory / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,
            )
        self._net.watch(self.process.pid)
        self._wait_until_ready()

    def kill9(self) -> None:
        """As the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._net.watch(0)

    def stop(self, *, remove: bool = False) -> None:
        """Ends it; with `remove`, its directory too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self.kill9()
        self._net.close()
        if remove:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        last_words = (self.directory / "output.log").read_text(errors="replace")[-LAST_WORDS:]
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{last_words}")
