"""Atrium as an administrator starts it, with the embedded PostgreSQL it brings along and the cheapest password hash."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from typing_extensions import override

from benchmarks.peer import Meeting
from benchmarks.procfs import Watched
from benchmarks.servers.database import describe
from benchmarks.servers.server import Options, Server
from homeserver.matrix import base64
from homeserver.storage.embedded import EmbeddedPostgres
from tests.support.process import HomeserverProcess, free_port


class _Process(HomeserverProcess):
    """With a configuration file, which says what `--dev` says, and by which name other servers reach it."""

    def __init__(self, data: Path, meeting: Meeting, processes: int) -> None:
        super().__init__(data, processes=processes)
        self.name = f"localhost:{free_port()}"
        self.config = data.parent / f"{data.name}.yaml"
        self.config.write_text(json.dumps(self._configuration(meeting)))

    @override
    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("atrium")), "serve", "--config", str(self.config)]

    def _configuration(self, meeting: Meeting) -> dict[str, Any]:
        secret = meeting.certificate.with_suffix(".key")
        local = {"address": "127.0.0.1"}
        notary = meeting.notary
        return {
            "server": {"name": self.name, "data_dir": str(self.data), "processes": self.processes},
            "listeners": [
                {**local, "port": self.port, "resources": ["client", "media", "metrics", "health"]},
                {
                    **local,
                    "port": int(self.name.partition(":")[2]),
                    "resources": ["federation"],
                    "tls": {"certificate": str(meeting.certificate), "private_key": str(secret)},
                },
            ],
            "registration": {"enabled": True, "flows": [["dummy"]], "open_without_checks": True},
            "auth": {"password_hash": {"memory": "8K", "passes": 1, "parallelism": 1}},
            "rate_limits": {"enabled": False},
            "appservices": {"registration_files": [str(meeting.bot.file)]},
            "outbound": {
                "extra_ca_files": [str(meeting.certificate)],
                "allow_private": {
                    "federation": ["127.0.0.0/8", "::1/128"],
                    "appservices": ["127.0.0.1/32"],
                },
            },
            "federation": {
                "key_servers": [
                    {
                        "server_name": notary.name,
                        "verify_keys": {notary.key.key_id: base64.encode(notary.key.public_key)},
                    }
                ]
            },
        }


@contextmanager
def start(options: Options) -> Iterator[Server]:
    """Run it on an empty data directory, stop it and its database at the end."""
    with _Process(options.directory / options.label, options.meeting, options.processes) as process:
        process.start()
        postgres = EmbeddedPostgres(process.data)  # runs already: only asked where it is
        assert postgres.pid is not None, f"no PostgreSQL under {process.data}"
        how_many = "one process" if options.processes == 1 else f"{options.processes} processes"
        about = f"Atrium {version('atrium-homeserver')}, {how_many}; {describe(postgres.dsn)}"
        watched = Watched((process.pid,), (postgres.pid,))
        yield Server(options.label, process.base_url, watched, about, process.name)
