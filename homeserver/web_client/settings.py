"""The `config.json` of a web client, made from the server's configuration."""

from __future__ import annotations

from typing import Any

from homeserver.config import Config
from homeserver.config.branding import WebClientSection


def settings_of(config: Config, client: WebClientSection) -> dict[str, Any]:
    """What the client reads at its start. The administrator's own settings replace those of the same name."""
    made = _element(config) if client.kind == "element" else _cinny(config)
    return {**made, **client.settings}


def _element(config: Config) -> dict[str, Any]:
    """Names of Element Web's docs/config.md."""
    name = config.server.name
    settings: dict[str, Any] = {
        "default_server_config": {
            "m.homeserver": {"base_url": config.server.public_baseurl, "server_name": name}
        },
        "brand": config.branding.name or name,
        "disable_custom_urls": True,
        "disable_guests": not config.registration.guests,
        "disable_3pid_login": config.mail is None,
        "room_directory": {"servers": [name]},
        "setting_defaults": {"UIFeature.registration": config.registration.enabled},
    }
    if config.calls.livekit is not None:
        settings["element_call"] = {"use_exclusively": True}
    if config.server.support_page:
        settings["help_url"] = config.server.support_page
    return settings


def _cinny(config: Config) -> dict[str, Any]:
    """Names of Cinny's config.json. Paths of its pages stand behind a #, since the server knows files alone.

    Cinny looks for `/.well-known/matrix/client` at what it is told: only here is it there for sure.
    """
    name, base_url = config.server.name, config.server.public_baseurl
    here = name if base_url == f"https://{name}" else base_url
    return {
        "defaultHomeserver": 0,
        "homeserverList": [here],
        "allowCustomHomeservers": False,
        "featuredCommunities": {"openAsDefault": False, "spaces": [], "rooms": [], "servers": [name]},
        "hashRouter": {"enabled": True, "basename": "/"},
    }
