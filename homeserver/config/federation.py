"""Speaking with other homeservers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config import checks
from homeserver.config.base import Duration, Section
from homeserver.config.partners import PartnerSection, ServerPattern, each_once
from homeserver.config.server import check_server_name


class KeyServer(Section):
    """A server that vouches for the keys of others."""

    server_name: Annotated[str, AfterValidator(check_server_name)]
    """Its server name."""

    verify_keys: Annotated[
        dict[str, Annotated[str, AfterValidator(checks.public_key)]], AfterValidator(checks.by_key_id)
    ] = Field(default_factory=dict)
    """Its own keys, by id (ed25519:abc), in unpadded base64. Without them, its answer is believed as TLS vouches for it."""


class FederationSection(Section):
    """Speaking with other homeservers."""

    enabled: bool = True
    """False keeps everything on this server."""

    key_servers: tuple[KeyServer, ...] = ()
    """Whom to ask for the keys of servers that cannot be reached. None: only the servers themselves are asked."""

    allow: tuple[ServerPattern, ...] | None = None
    """If given, only these servers (names, with * and ?) are spoken with. Read again on SIGHUP, as deny and partners are."""

    deny: tuple[ServerPattern, ...] = ()
    """These servers are never spoken with."""

    partners: Annotated[tuple[PartnerSection, ...], Field(max_length=10_000), AfterValidator(each_once)] = ()
    """What was agreed with single servers: server_name (with * and ?), contact, ca_files, pins, requests, pdus, rooms, media,
    max_media_size, presence. A name counts before one with * or ?, and of those the first that fits."""

    verify_certificates: bool = True
    """False accepts any certificate: for tests only."""

    retry_longest: Duration = Field(default=86400.0, ge=60)
    """The longest pause before a server that did not answer is tried again."""

    device_names: bool = False
    """Whether other servers are told what people call their devices."""

    profile_lookup: bool = True
    """Whether other servers may ask for the names and pictures of people here."""
