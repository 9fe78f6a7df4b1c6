"""Notices as values."""

from __future__ import annotations

from typing import NamedTuple


class Told(NamedTuple):
    """Who was told that a limit is reached, and by which event; None: they could not be told."""

    user_nid: int
    event_id: str | None
