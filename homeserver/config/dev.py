"""The configuration of `atrium serve --dev`: everything open, cheap and on this machine only."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from homeserver.config.load import ConfigError, build
from homeserver.config.root import Config

EVERY_RESOURCE = ["client", "federation", "media", "admin", "metrics", "health"]
_ANY_PRIVATE = ["0.0.0.0/0", "::/0"]


def dev_config(
    *,
    port: int = 8008,
    data: Path,
    server_name: str = "localhost",
    processes: int = 1,
    address: str = "127.0.0.1",
) -> Config:
    """For trying it out and for tests: registration open, rate limits off, the cheapest password hash.

    Raises:
        ConfigError: the address is not a loopback one, or a value is wrong.
    """
    if not _is_loopback(address):
        raise ConfigError(
            "--dev", [("--address", f"{address} can be reached from outside; --dev is for this machine only")]
        )
    raw = {
        # So that what is tried with several processes is tried at several.
        "server": {"name": server_name, "data_dir": str(data), "processes": processes, "spread": "evenly"},
        "listeners": [{"address": address, "port": port, "resources": EVERY_RESOURCE}],
        "registration": {
            "enabled": True,
            "flows": [["dummy"]],
            "open_without_checks": True,
            "guests": True,
            "shared_secret": "dev",
        },
        "auth": {
            "password_hash": {"memory": "8K", "passes": 1, "parallelism": 1},
            "password_policy": {"minimum_length": 1},
            "login_tokens": True,
        },
        "rate_limits": {"enabled": False},
        "federation": {"allow": ["localhost", "127.0.0.1", "[::1]"]},  # this machine only, in both directions
        "rooms": {"directory": {"publish": "members", "read": "everybody", "read_over_federation": True}},
        "outbound": {
            "allow_private": dict.fromkeys(
                ("federation", "push", "appservices", "identity", "previews"), _ANY_PRIVATE
            )
        },
    }
    return build(raw, source="--dev", base=Path()).for_development()


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
