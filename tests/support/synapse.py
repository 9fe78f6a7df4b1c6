"""Synapse from PyPI, in an environment of its own: a partner, an oracle and a benchmark peer that nobody here wrote.

`ensure_environment` creates the virtual environment once; `Synapse` runs a server with rate limits off, open
registration (`m.login.dummy`), the cheapest password hash and no key servers. Nothing of it is imported by Atrium.
"""

import base64
import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from tests.support.other_homeserver import OtherHomeserver

VERSION = "1.163.2"
REQUIREMENTS = (f"matrix-synapse=={VERSION}", "psycopg2-binary")
DEFAULT_ENVIRONMENT = Path(__file__).resolve().parents[2] / ".cache" / "interop" / "synapse-venv"
REGISTRATION_SECRET = "interop"  # for /_synapse/admin/v1/register

_NO_LIMIT = {"per_second": 100_000, "burst_count": 100_000}
_RATE_LIMITS: dict[str, Any] = {
    "rc_message": _NO_LIMIT,
    "rc_registration": _NO_LIMIT,
    "rc_registration_token_validity": _NO_LIMIT,
    "rc_login": {"address": _NO_LIMIT, "account": _NO_LIMIT, "failed_attempts": _NO_LIMIT},
    "rc_admin_redaction": _NO_LIMIT,
    "rc_joins": {"local": _NO_LIMIT, "remote": _NO_LIMIT},
    "rc_joins_per_room": _NO_LIMIT,
    "rc_3pid_validation": _NO_LIMIT,
    "rc_invites": {"per_room": _NO_LIMIT, "per_user": _NO_LIMIT, "per_issuer": _NO_LIMIT},
    "rc_third_party_invite": _NO_LIMIT,
    "rc_media_create": _NO_LIMIT,
    "rc_federation": {
        "window_size": 1000,
        "sleep_limit": 100_000,
        "sleep_delay": 1,
        "reject_limit": 100_000,
        "concurrent": 100,
    },
    "rc_key_requests": _NO_LIMIT,
    "rc_presence": {"per_user": _NO_LIMIT},
    "rc_delayed_event_mgmt": _NO_LIMIT,
    "rc_room_creation": _NO_LIMIT,
    "rc_reports": _NO_LIMIT,
    "rc_user_directory": _NO_LIMIT,
}


def ensure_environment(directory: Path = DEFAULT_ENVIRONMENT) -> Path:
    """Create the virtual environment at `directory` unless it is there; answer its Python.

    Safe to call from several processes at once. Raises subprocess.CalledProcessError when pip fails.
    """
    python = directory / "bin" / "python"
    finished = directory / f"synapse-{VERSION}.installed"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
            finished.touch()
    return python


@dataclass(frozen=True)
class SynapseSettings:
    """How a Synapse is to run.

    `postgres` is a libpq connection string (collation C), None means SQLite. `extra` is merged over the generated
    configuration, one level deep: `{"federation_custom_ca_list": [...], "listeners": [...]}`.
    """

    port: int
    server_name: str = "localhost"
    postgres: str | None = None
    federation: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


class Synapse(OtherHomeserver):
    """A Synapse whose files are in a directory; its log is `homeserver.log`."""

    name = "Synapse"

    def __init__(self, directory: Path, settings: SynapseSettings, python: Path) -> None:
        """`python`: of `ensure_environment`. Writes its key and its configuration into `directory`."""
        super().__init__(directory, settings.port)
        self.python = python
        directory.mkdir(parents=True, exist_ok=True)
        _write_signing_key(directory / "signing.key")
        (directory / "log.yaml").write_text(yaml.safe_dump(_logging(directory)))
        (directory / "homeserver.yaml").write_text(yaml.safe_dump(configuration(directory, settings)))

    @override
    def command(self) -> list[str]:
        return [
            str(self.python),
            "-m",
            "synapse.app.homeserver",
            "-c",
            str(self.directory / "homeserver.yaml"),
        ]


def configuration(directory: Path, settings: SynapseSettings) -> dict[str, Any]:
    """The homeserver.yaml for `settings` as a mapping."""
    names = ["client", "federation"] if settings.federation else ["client"]
    return {
        "server_name": settings.server_name,
        "public_baseurl": f"http://127.0.0.1:{settings.port}/",
        "report_stats": False,
        "pid_file": str(directory / "homeserver.pid"),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "log_config": str(directory / "log.yaml"),
        "macaroon_secret_key": "interop",
        "form_secret": "interop",
        "registration_shared_secret": REGISTRATION_SECRET,
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "federation_verify_certificates": False,
        "ip_range_blacklist": [],
        "url_preview_enabled": False,
        "listeners": [
            {
                "port": settings.port,
                "type": "http",
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": names, "compress": False}],
            }
        ],
        "database": _database(directory, settings.postgres),
        **_RATE_LIMITS,
        **settings.extra,
    }


def _database(directory: Path, postgres: str | None) -> dict[str, Any]:
    if postgres is None:
        return {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}}
    return {"name": "psycopg2", "args": {"dsn": postgres, "cp_min": 5, "cp_max": 10}}


def _logging(directory: Path) -> dict[str, Any]:
    handler = {
        "class": "logging.FileHandler",
        "filename": str(directory / "homeserver.log"),
        "formatter": "plain",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"file": handler},
        "root": {"level": "WARNING", "handlers": ["file"]},
    }


def _write_signing_key(path: Path) -> None:
    if not path.exists():
        seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
        path.write_text(f"ed25519 a_bench {seed}\n")
