"""What the server tells its users."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config.base import Section


def _check_localpart(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9._=/+-]{1,200}", name):
        raise ValueError("the first part of a user ID is expected, such as notices")
    return name


class ServerNoticesSection(Section):
    """Notices of the server to its users."""

    enabled: bool = False
    """Whether the server sends notices: those of administrators, by /_synapse/admin/v1/send_server_notice."""

    sender: Annotated[str, AfterValidator(_check_localpart)] = "notices"
    """The first part of the ID of the user whom notices come from. The account is made by the server, and nobody can log in as
    it; one that somebody has already cannot be used."""

    display_name: str = Field(default="Server notices", min_length=1, max_length=200)
    """That user's name."""

    avatar_url: str | None = Field(default=None, pattern=r"^mxc://[^/]+/[^/]+$", max_length=500)
    """That user's picture: a file on this server (mxc://…)."""

    room_name: str = Field(default="Server notices", min_length=1, max_length=200)
    """The name of the rooms."""
