"""Synapse from PyPI in one process, as its package starts it, on the PostgreSQL that Atrium brings along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from benchmarks.servers.server import Options, Server
from tests.support.process import free_port
from tests.support.synapse import VERSION, Synapse, SynapseSettings, ensure_environment


@contextmanager
def start(options: Options) -> Iterator[Server]:
    """Install Synapse if it is not there, run it, stop it at the end."""
    python = ensure_environment(options.environment)
    with own_database(options.directory / "synapse-database", "synapse") as (postgres, dsn):
        assert postgres.pid is not None, "it runs"
        synapse = Synapse.start(
            options.directory / "synapse", SynapseSettings(free_port(), postgres=dsn), python
        )
        try:
            about = f"Synapse {VERSION}, one process; {describe(dsn)}"
            yield Server("synapse", synapse.url, Watched((synapse.pid,), (postgres.pid,)), about)
        finally:
            synapse.stop()
