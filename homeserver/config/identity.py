"""Identity servers: who tells to whom an address belongs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from homeserver.config.base import Section
from homeserver.matrix.ids import is_server_name


def _check_name(name: str) -> str:
    if not is_server_name(name):
        raise ValueError("a host name is expected, such as vector.im")
    return name.lower()


class IdentitySection(Section):
    """Identity servers, by which people are invited and found by their e-mail address."""

    trusted_servers: tuple[Annotated[str, AfterValidator(_check_name)], ...] = ()
    """Which of those that clients name are asked, by their host names. They learn who invites whom. Empty: none."""
