"""Synapse from PyPI in one process, as its package starts it, on the PostgreSQL that Atrium brings along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peer import Meeting
from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from benchmarks.servers.server import Options, Server
from homeserver.matrix import base64
from tests.support.process import free_port
from tests.support.synapse import VERSION, Synapse, SynapseSettings, ensure_environment


def _settings(meeting: Meeting, dsn: str) -> SynapseSettings:
    """It shows the certificate, and tries again soon: its own pauses begin with ten minutes."""
    port, federation = free_port(), free_port()
    listener = {"type": "http", "bind_addresses": ["127.0.0.1"]}
    notary = meeting.notary
    extra = {
        "listeners": [
            {**listener, "port": port, "resources": [{"names": ["client"], "compress": False}]},
            {**listener, "port": federation, "tls": True, "resources": [{"names": ["federation"]}]},
        ],
        "tls_certificate_path": str(meeting.certificate),
        "tls_private_key_path": str(meeting.certificate.with_suffix(".key")),
        "room_list_publication_rules": [{"action": "allow"}],
        "app_service_config_files": [str(meeting.bot.file)],
        "trusted_key_servers": [
            {
                "server_name": notary.name,
                "verify_keys": {notary.key.key_id: base64.encode(notary.key.public_key)},
            }
        ],
    }
    return SynapseSettings(port, server_name=f"localhost:{federation}", postgres=dsn, extra=extra)


@contextmanager
def start(options: Options) -> Iterator[Server]:
    """Install Synapse if it is not there, run it, stop it at the end."""
    python = ensure_environment(options.environment)
    with own_database(options.directory / "synapse-database", "synapse") as (postgres, dsn):
        assert postgres.pid is not None, "it runs"
        settings = _settings(options.meeting, dsn)
        synapse = Synapse(options.directory / "synapse", settings, python)
        synapse.start()
        try:
            about = f"Synapse {VERSION}, one process; {describe(dsn)}"
            watched = Watched((synapse.pid,), (postgres.pid,))
            yield Server("synapse", synapse.url, watched, about, settings.server_name)
        finally:
            synapse.stop()
