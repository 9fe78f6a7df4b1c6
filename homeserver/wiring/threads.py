"""Thread subscriptions, put together."""

from __future__ import annotations

from homeserver.threads.api import ThreadSubscriptionsApi
from homeserver.threads.entries import ThreadSubscriptionSink
from homeserver.threads.service import ThreadRules, ThreadSubscriptions
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class ThreadsFeature:
    """Service and endpoints."""

    def __init__(self, core: Core, rooms: RoomsFeature, rules: ThreadRules) -> None:
        self._core = core
        self.service = ThreadSubscriptions(
            core.db, core.log, core.events, core.interning, rooms.reading, rules
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="threads",
            apis=[ThreadSubscriptionsApi(self.service, self._core.tail)],
            sinks=[ThreadSubscriptionSink()],
            streams=[self.service],
            forgets=[self.service],
        )
