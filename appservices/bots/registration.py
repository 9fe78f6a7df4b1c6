"""The registration file of a bot: what its homeserver is told of it. spec: application-service-api/#registration"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from appservices.bots.clock import token
from appservices.bots.errors import NotConfigured


class Registration(NamedTuple):
    """What a bot needs of it."""

    id: str
    url: str
    as_token: str
    hs_token: str
    sender_localpart: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which the homeserver looks for the bot."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80


def new(name: str, url: str) -> dict[str, Any]:
    """A registration for a bot with this local part, with tokens that nobody knows."""
    return {
        "id": name,
        "url": url,
        "as_token": token(),
        "hs_token": token(),
        "sender_localpart": name,
        "rate_limited": False,
        "namespaces": {"users": [], "aliases": [], "rooms": []},
        "receive_ephemeral": True,
        "de.sorunome.msc2409.push_ephemeral": True,
        "io.element.msc4190": True,
    }


def write(path: Path, registration: Mapping[str, Any]) -> None:
    """For its owner alone: it has secrets in it."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(dict(registration), sort_keys=False), encoding="utf-8")


def read(path: Path) -> Registration:
    """Raises `NotConfigured`."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError:
        raise NotConfigured(f"{path} is no YAML") from None
    values = {name: raw.get(name) for name in Registration._fields} if isinstance(raw, dict) else {}
    missing = [name for name in Registration._fields if not isinstance(values.get(name), str)]
    if missing:
        raise NotConfigured(f"{path}: {', '.join(missing)} missing, or no text")
    return Registration(**{name: str(value) for name, value in values.items()})
