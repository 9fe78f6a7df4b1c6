"""Profiles in sync, put together."""

from __future__ import annotations

from homeserver.profiles.sliding import SlidingProfiles
from homeserver.profiles.stream import ProfileStream
from homeserver.rooms.memberships import Memberships
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class ProfilesInSyncFeature:
    """The streams alone: profiles themselves belong to the accounts."""

    def __init__(self, core: Core, memberships: Memberships) -> None:
        self.stream = ProfileStream(core.db, memberships)
        self.sliding = SlidingProfiles(core.db, core.rooms, memberships, core.interning)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="profiles", streams=[self.stream])
