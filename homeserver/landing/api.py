"""Endpoints of the page at `/`, and of the logo that it and other pages show."""

from __future__ import annotations

import base64
import hashlib

from homeserver.config import Config
from homeserver.config.branding import LOGO_TYPES
from homeserver.landing.document import SCRIPT, document
from homeserver.landing.words import LANGUAGES, language_of
from homeserver.matrix.errors import NotFound, Unrecognized
from homeserver.web.endpoint import Auth, Header, endpoint
from homeserver.web.page import LOGO_PATH, Branding
from homeserver.web.response import Html, Response


class LandingApi:
    """Holds the documents, made when the server starts."""

    def __init__(self, config: Config, branding: Branding) -> None:
        """Raises `OSError` if the logo has gone since the configuration was read."""
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        policy = (
            "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; "
            f"script-src 'sha256-{digest}'; frame-ancestors 'none'"
        )
        self._pages: dict[str, Html] = {}
        if config.branding.landing_page:
            for language, words in LANGUAGES.items():
                text = document(config, branding, language, words)
                self._pages[language] = Html(text, policy=policy)
        self._logo = _logo(config)

    @endpoint("getLandingPage", "GET", "/", auth=Auth.NONE)
    async def show(self, accept_language: Header[str] = "") -> Html:
        """Says what this server is and how to connect."""
        if not self._pages:
            raise Unrecognized("Unrecognized request")
        return self._pages[language_of(accept_language)]

    @endpoint("getLogo", "GET", LOGO_PATH, auth=Auth.NONE)
    async def logo(self) -> Response:
        """The picture on this server's pages."""
        if self._logo is None:
            raise NotFound("This server has no logo")
        return self._logo


def _logo(config: Config) -> Response | None:
    file = config.branding.logo
    if file is None:
        return None
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "public, max-age=3600",
    }
    return Response(body=file.read_bytes(), headers=headers, content_type=LOGO_TYPES[file.suffix.lower()])
