"""Dendrite, a homeserver in Go: a second program to federate with that nobody here wrote.

Nothing of it is in this repository. `ATRIUM_TEST_DENDRITE` names a binary of it (`go build ./cmd/dendrite` in a checkout
of github.com/element-hq/dendrite); without it the tests that need one are skipped. It speaks with nobody but the
loopback address.
"""

import base64
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from homeserver.storage.system_user import child_setup

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


@dataclass
class Dendrite:
    """A running Dendrite: `url` for clients, `pid` for measuring, `directory` for its files and its log."""

    binary: Path
    directory: Path
    settings: DendriteSettings
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, binary: Path, directory: Path, settings: DendriteSettings) -> "Dendrite":
        """Writes the configuration into `directory` and waits until the server answers `/versions`."""
        directory.mkdir(parents=True, exist_ok=True)
        seed = base64.b64encode(os.urandom(32)).decode()
        key = f"-----BEGIN MATRIX PRIVATE KEY-----\nKey-ID: ed25519:a_1\n\n{seed}\n-----END MATRIX PRIVATE KEY-----\n"
        (directory / "matrix_key.pem").write_text(key)
        (directory / "dendrite.yaml").write_text(yaml.safe_dump(configuration(directory, settings)))
        server = cls(binary, directory, settings)
        server.start_again()
        return server

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self.process is not None
        return self.process.pid

    def start_again(self) -> None:
        """On the same data and ports, after it has ended. Raises RuntimeError with its last words if it does not answer."""
        settings = self.settings
        command = [
            *(str(self.binary), "-config", str(self.directory / "dendrite.yaml")),
            *("-http-bind-address", f"127.0.0.1:{settings.port}"),
            *("-https-bind-address", f"127.0.0.1:{settings.tls_port}"),
            *("-tls-cert", str(settings.certificate)),
            *("-tls-key", str(settings.certificate.with_suffix(".key"))),
            "-really-enable-open-registration",
        ]
        with (self.directory / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={**os.environ, "SSL_CERT_FILE": str(settings.certificate)},
                preexec_fn=child_setup(None),  # noqa: PLW1509  # it ends with us, however we end
            )
        self._wait_until_ready()

    def kill9(self) -> None:
        """As the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, *, remove: bool = False) -> None:
        """Ends the server; with `remove`, its directory too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill9()
        if remove:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_ready(self, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        end_of_log = (self.directory / "output.log").read_text(errors="replace")[-3000:]
        self.stop()
        raise RuntimeError(f"Dendrite did not start:\n{end_of_log}")


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
