"""Who is there."""

from __future__ import annotations

from pydantic import Field

from homeserver.config.base import Duration, Section


class PresenceSection(Section):
    """Who is there. It costs more than any other feature in large rooms."""

    enabled: bool = True
    """False: everybody is offline, and nothing is sent about it."""

    idle_after: Duration = Field(default=300.0, ge=1)
    """After how long without activity somebody is shown as away."""

    offline_after: Duration = Field(default=30.0, ge=1)
    """After how long without a connection somebody is shown as offline."""
