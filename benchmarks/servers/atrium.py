"""Atrium as `atrium serve --dev` starts it, with the embedded PostgreSQL it brings along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from benchmarks.procfs import Watched
from benchmarks.servers.database import describe
from benchmarks.servers.server import Options, Server
from homeserver.storage.embedded import EmbeddedPostgres
from tests.support.process import HomeserverProcess


@contextmanager
def start(options: Options) -> Iterator[Server]:
    """Run it on an empty data directory, stop it and its database at the end."""
    with HomeserverProcess(options.directory / options.label, processes=options.processes) as process:
        process.start()
        postgres = EmbeddedPostgres(process.data)  # runs already: only asked where it is
        assert postgres.pid is not None, f"no PostgreSQL under {process.data}"
        how_many = "one process" if options.processes == 1 else f"{options.processes} processes"
        about = f"Atrium {version('atrium-homeserver')}, {how_many}; {describe(postgres.dsn)}"
        yield Server(options.label, process.base_url, Watched((process.pid,), (postgres.pid,)), about)
