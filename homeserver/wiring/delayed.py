"""Delayed events, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.delayed.api import DelayedApi
from homeserver.delayed.sender import POLL, DelayedSender
from homeserver.delayed.service import FORGET_EVERY, Bounds, DelayedEvents
from homeserver.runtime.periodic import every
from homeserver.sessions.acting import ActingUsers
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class DelayedFeature:
    """Service, sender and endpoints; what rooms are told to send later comes here."""

    def __init__(self, config: Config, core: Core, rooms: RoomsFeature, limiter: RateLimiter) -> None:
        self.sender = DelayedSender(
            core.db, ActingUsers(core.db), rooms.sending, core.rooms, core.events, limiter, core.clock
        )
        limits = config.limits
        bounds = Bounds(
            delay_ms=int(limits.delayed_event_delay * 1000),
            events=limits.delayed_events,
            content_bytes=limits.delayed_event_bytes,
        )
        self.events = DelayedEvents(
            core.db, self.sender, core.rooms, core.tail, core.clock, core.entropy, bounds
        )
        rooms.sending_api.delay_with(self.events)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        sender, events = self.sender, self.events
        return Manifest(
            name="delayed",
            apis=[DelayedApi(events)],
            periodic=[
                every(POLL, sender.send_due, name="delayed.send", wake=sender.wake, first=0.0),
                every(FORGET_EVERY, events.forget_finalised, name="delayed.forget", once_in_cluster=True),
            ],
            forgets=[events],
            closing=[sender.stop],
        )
