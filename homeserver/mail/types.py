"""A letter."""

from __future__ import annotations

from typing import NamedTuple


class Letter(NamedTuple):
    """What somebody is to be told by mail: the same in plain text and in HTML."""

    to: str
    """One address."""
    subject: str
    text: str
    html: str
    """A whole document. It must load nothing from elsewhere: mail programs tell the sender what they load."""
