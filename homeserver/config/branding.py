"""How the server looks to people: its pages, and a web client that it serves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from homeserver.config.base import AnyPath, ReadableFile, Section
from homeserver.config.server import BaseUrl

LOGO_TYPES: Final = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
_MAX_LOGO: Final = 512 << 10
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")


def _check_logo(path: Path) -> Path:
    if path.suffix.lower() not in LOGO_TYPES:
        raise ValueError(f"a file that ends in {', '.join(LOGO_TYPES)} is expected")
    if path.stat().st_size > _MAX_LOGO:
        raise ValueError("the file is larger than 512K")
    return path


def _check_colour(colour: str) -> str:
    if not _COLOUR.fullmatch(colour):
        raise ValueError("a colour is expected, such as #0b6e55")
    return colour


def _check_client(path: Path) -> Path:
    if not (path / "index.html").is_file():
        raise ValueError(f"{path} has no index.html: the folder of a web client that was built is expected")
    return path


class BrandingSection(Section):
    """What people see of the server: the page at / and the pages for logging in and confirming an address."""

    name: str | None = Field(default=None, min_length=1, max_length=80, examples=["Example Ltd"])
    """Whose server it is. Default: the server's name."""

    text: str | None = Field(default=None, max_length=500)
    """A sentence of welcome. Default: one that says what this is."""

    logo: Annotated[ReadableFile, AfterValidator(_check_logo)] | None = None
    """A picture for the head of the page: SVG, PNG, WebP or JPEG."""

    colour: Annotated[str, AfterValidator(_check_colour)] = "#0b6e55"
    """The colour of buttons and links; dark enough that white text can be read on it."""

    links: dict[Annotated[str, Field(min_length=1, max_length=40)], BaseUrl] = Field(
        default_factory=dict, max_length=8, examples=[{"Imprint": "https://example.com/imprint"}]
    )
    """What stands at the foot of the page, by the words to show."""

    landing_page: bool = True
    """Whether there is a page at / at all."""


class WebClientSection(Section):
    """A web client that this server hands out under /web/, with its configuration written by the server."""

    path: Annotated[AnyPath, AfterValidator(_check_client), Field(examples=["/srv/element"])]
    """The folder of a client that was built or unpacked: the one with index.html. Cinny must be built for /web/."""

    kind: Literal["element", "cinny"] = "element"
    """Whose way of configuration it has."""

    settings: dict[str, Any] = Field(default_factory=dict, examples=[{"default_theme": "dark"}])
    """Settings of the client's config.json that are added to those of the server, or replace them."""
