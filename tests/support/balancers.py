"""nginx and HAProxy before several hosts, with the configurations of docs/scaling.md: the very same text."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
PROGRAMS = ("nginx", "haproxy")


def missing() -> str | None:
    """What this machine lacks, in words; None if nothing."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return (
        f"not installed: {', '.join(lacking)} (Debian: apt-get install {' '.join(lacking)})"
        if lacking
        else None
    )


def documented(program: str) -> str:
    """The configuration that stands in the documentation."""
    found = re.search(rf"```{program}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE} has no configuration of {program}"
    return found[1]


class Balancer:
    """One of them, on a loopback port, before `hosts` (address:port each)."""

    def __init__(self, program: str, folder: Path, port: int, hosts: list[str]) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        text = documented(program)
        for number, host in enumerate(hosts, 11):
            assert f"10.0.0.{number}:8008" in text
            text = text.replace(f"10.0.0.{number}:8008", host)
        for listen in ("*:80", "listen 80"):
            text = text.replace(listen, listen.replace("*", "127.0.0.1").replace("80", str(port)))
        self._config = folder / f"{program}.conf"
        self._config.write_text(text)

    def __enter__(self) -> Self:
        log = (self._folder / f"{self.program}.log").open("wb")
        self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError((self._folder / f"{self.program}.log").read_text())
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def _command(self) -> list[str]:
        if self.program == "nginx":
            more = f"daemon off; pid {self._folder}/nginx.pid; error_log stderr;"
            return ["nginx", "-p", str(self._folder), "-c", str(self._config), "-g", more]
        return ["haproxy", "-db", "-f", str(self._config)]
