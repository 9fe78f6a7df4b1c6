"""A bot of the SDK in a process of its own, as `python bot.py` starts it: to be told, killed, and started again."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appservices.bots import registration
from tests.support.process import free_port


@dataclass
class BotProcess:
    """`program`: its file; `folder`: where its registration, its data and its log lie."""

    program: Path
    folder: Path
    name: str
    homeserver: str = ""
    options: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        raw = registration.new(self.name, f"http://127.0.0.1:{free_port()}")
        registration.write(self.registration, raw)

    @property
    def registration(self) -> Path:
        return self.folder / "registration.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "bot.log").read_text(errors="replace")

    def start(self) -> None:
        command = [
            sys.executable, str(self.program), "--registration", str(self.registration),
            "--homeserver", self.homeserver, "--data", str(self.folder / "bot.db"), *self.options,
        ]  # fmt: skip
        environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with (self.folder / "bot.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def kill9(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As an init system does; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(20)
        self._process = None
        return status
