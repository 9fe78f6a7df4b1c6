"""Dendrite, a homeserver in Go, in one process on the PostgreSQL that Atrium brings along; who measures has built it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from benchmarks.servers.server import Options, Server
from tests.support.dendrite import VARIABLE, Dendrite, DendriteSettings
from tests.support.process import free_port


def _program() -> Path:
    given = os.environ.get(VARIABLE)
    if not given:
        raise SystemExit(f"{VARIABLE} does not name a Dendrite to measure")
    return Path(given)


@contextmanager
def start(options: Options) -> Iterator[Server]:
    """Run the program that the environment names, stop it at the end. Raises SystemExit where none is named."""
    program = _program()
    with own_database(options.directory / "dendrite-database", "dendrite") as (postgres, dsn):
        assert postgres.pid is not None, "it runs"
        port, federation = free_port(), free_port()
        name = f"localhost:{federation}"
        settings = DendriteSettings(port, federation, name, dsn, options.meeting.certificate)
        dendrite = Dendrite(program, options.directory / "dendrite", settings)
        dendrite.start()
        try:
            said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stdout
            about = f"Dendrite {said.strip() or 'of unknown version'}, one process; {describe(dsn)}"
            yield Server("dendrite", dendrite.url, Watched((dendrite.pid,), (postgres.pid,)), about, name)
        finally:
            dendrite.stop()
