"""Dendrite, a homeserver in Go: a second program to federate with that nobody here wrote.

Nothing of it is in this repository. `ATRIUM_TEST_DENDRITE` names a binary of it (`go build ./cmd/dendrite` in a checkout
of github.com/element-hq/dendrite); without it the tests that need one are skipped. It speaks with nobody but the
loopback address.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from tests.support.other_homeserver import OtherHomeserver

VARIABLE = "ATRIUM_TEST_DENDRITE"


def binary() -> Path:
    """The program; skips the test where none is named."""
    given = os.environ.get(VARIABLE)
    if not given:
        pytest.skip(f"{VARIABLE} does not name a Dendrite to federate with")
    return Path(given)


@dataclass(frozen=True)
class DendriteSettings:
    """`database`: libpq connection string of an empty database; `certificate`: PEM, its key is beside it, as `.key`.

    It shows this certificate, and trusts no other.
    """

    port: int
    tls_port: int
    server_name: str
    database: str
    certificate: Path


class Dendrite(OtherHomeserver):
    """A Dendrite whose files are in a directory."""

    name = "Dendrite"

    def __init__(self, binary: Path, directory: Path, settings: DendriteSettings) -> None:
        """Writes its key and its configuration into `directory`."""
        super().__init__(directory, settings.port)
        self.binary = binary
        self.settings = settings
        directory.mkdir(parents=True, exist_ok=True)
        seed = base64.b64encode(os.urandom(32)).decode()
        key = f"-----BEGIN MATRIX PRIVATE KEY-----\nKey-ID: ed25519:a_1\n\n{seed}\n-----END MATRIX PRIVATE KEY-----\n"
        (directory / "matrix_key.pem").write_text(key)
        (directory / "dendrite.yaml").write_text(yaml.safe_dump(configuration(directory, settings)))

    @override
    def command(self) -> list[str]:
        settings = self.settings
        return [
            *(str(self.binary), "-config", str(self.directory / "dendrite.yaml")),
            *("-http-bind-address", f"127.0.0.1:{settings.port}"),
            *("-https-bind-address", f"127.0.0.1:{settings.tls_port}"),
            *("-tls-cert", str(settings.certificate)),
            *("-tls-key", str(settings.certificate.with_suffix(".key"))),
            "-really-enable-open-registration",
        ]

    @override
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "SSL_CERT_FILE": str(self.settings.certificate)}


def configuration(directory: Path, settings: DendriteSettings) -> dict[str, Any]:
    """The dendrite.yaml for `settings` as a mapping: no limits, the cheapest password hash, no key servers."""
    return {
        "version": 2,
        "global": {
            "server_name": settings.server_name,
            "private_key": str(directory / "matrix_key.pem"),
            "database": {"connection_string": settings.database, "max_open_conns": 20},
            "cache": {"max_size_estimated": "64mb", "max_age": "1h"},
            "jetstream": {"storage_path": str(directory / "jetstream")},
            "presence": {"enable_inbound": True, "enable_outbound": True},
            "report_stats": {"enabled": False},
        },
        "client_api": {
            "registration_disabled": False,
            "guests_disabled": True,
            "registration_shared_secret": "interop",
            "rate_limiting": {"enabled": False},
        },
        "federation_api": {
            "send_max_retries": 16,
            "key_perspectives": [],
            "deny_networks": [],
            "allow_networks": ["127.0.0.0/8", "::1/128"],
        },
        "media_api": {"base_path": str(directory / "media"), "dynamic_thumbnails": True},
        "sync_api": {"search": {"enabled": False}},
        "user_api": {"bcrypt_cost": 4},
        "logging": [{"type": "std", "level": "warn"}],
    }
