"""The page at / and the web client, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.landing.api import LandingApi
from homeserver.web.page import Branding
from homeserver.web_client.api import WebClientApi
from homeserver.web_client.settings import settings_of
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


def branding_of(config: Config) -> Branding:
    """Whose pages these are."""
    section = config.branding
    return Branding(section.name or config.server.name, section.colour, section.logo is not None)


class LandingFeature:
    """Documents and files, and their endpoints."""

    def __init__(self, config: Config, core: Core) -> None:
        client = config.web_client
        self._apis = [
            LandingApi(config, branding_of(config)),
            WebClientApi(
                client.path if client else None, settings_of(config, client) if client else {}, core.memory
            ),
        ]

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="landing", apis=self._apis)
