"""What was agreed with other servers, one by one."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config import checks
from homeserver.config.base import ReadableFile, Section, Size
from homeserver.config.rate_limits import Rate

_PATTERN = re.compile(r"[0-9A-Za-z.\-*?:\[\]]{1,255}")
_ROOM = re.compile(r"[!#][^\x00\s]{1,254}")
_PIN_BYTES = 32


def _server_pattern(pattern: str) -> str:
    if not _PATTERN.fullmatch(pattern):
        raise ValueError("the name of a server is expected, with * and ? where it may be any: *.example.com")
    return pattern


def _room_pattern(pattern: str) -> str:
    if not _ROOM.fullmatch(pattern) and not _PATTERN.fullmatch(pattern):
        raise ValueError(
            "a room ID (!…), an alias of this server (#…) or the name of the server that made the room is expected, "
            "each with * and ? where it may be any"
        )
    return pattern


def _pin(pin: str) -> str:
    """Base64 of the SHA-256 of a SubjectPublicKeyInfo, as RFC 7469 and `curl --pinnedpubkey` write it."""
    text = pin.removeprefix("sha256/").removeprefix("/")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _PIN_BYTES:
        raise ValueError(
            "the SHA-256 of a public key is expected, in base64: sha256/YLh1dUR9y6Kja30RrAn7JKnbQG…="
        )
    return base64.b64encode(raw).decode()


ServerPattern = Annotated[str, AfterValidator(_server_pattern)]
"""A server name with `*` and `?`."""

RoomPattern = Annotated[str, AfterValidator(_room_pattern)]
"""A room ID, an alias, or the name of a server, with `*` and `?`."""

Pin = Annotated[str, AfterValidator(_pin)]
"""Base64 of 32 bytes."""


class PartnerSection(Section):
    """What was agreed with another server, or with several."""

    server_name: ServerPattern
    """Whom it concerns: a name, with * and ? several."""

    contact: Annotated[str, AfterValidator(checks.contact)] | None = None
    """Whom to write to: mailto:admin@partner.example, or a user id."""

    ca_files: tuple[Annotated[ReadableFile, AfterValidator(checks.authorities)], ...] = Field(
        default=(), max_length=16
    )
    """PEM files: only these authorities (or certificates) vouch for it. None: those that vouch for everybody."""

    pins: tuple[Pin, ...] = Field(default=(), max_length=16)
    """SHA-256 of the public keys that its certificate may have (sha256/BASE64). None: any."""

    requests: Rate | None = None
    """How many requests of it are answered, in place of rate_limits.federation."""

    pdus: Rate | None = None
    """How many events of it are taken."""

    rooms: Annotated[tuple[RoomPattern, ...], Field(max_length=1_000)] | None = None
    """If given, only these rooms are shared with it: room ids (!…), aliases of this server (#…), names of the servers that made
    them."""

    media: bool = True
    """Whether files are given to it and fetched from it."""

    max_media_size: Size | None = None
    """The largest file that is given to it or fetched from it. None: as media.max_upload says."""

    presence: bool = True
    """Whether it is told who is there, and heard about its own people."""


def each_once(partners: Sequence[PartnerSection]) -> Sequence[PartnerSection]:
    """Raises `ValueError` for a name that is there twice."""
    seen: set[str] = set()
    for partner in partners:
        name = partner.server_name.lower()
        if name in seen:
            raise ValueError(f"{partner.server_name} is there twice")
        seen.add(name)
    return partners
