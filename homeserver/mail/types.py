"""A letter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Letter(NamedTuple):
    """What somebody is to be told by mail: the same in plain text and in HTML."""

    to: str
    """One address."""
    subject: str
    text: str
    html: str
    """A whole document. It must load nothing from elsewhere: mail programs tell the sender what they load."""
    headers: Mapping[str, str] = {}
    """Further ones; values of one line."""
    message_id: str | None = None
    """What stands before the @ of its Message-ID, so that one that is sent again is known; None: a new one."""
