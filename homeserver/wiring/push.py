"""Push rules and unread counts, put together."""

from __future__ import annotations

from homeserver.account_data.service import AccountDataService
from homeserver.config import Config
from homeserver.graph.event_source import EventSource
from homeserver.log.readers import commands
from homeserver.log.readers.sources import FreshSource
from homeserver.log.readers.types import Backoff, Reader
from homeserver.push.api import PushRulesApi
from homeserver.push.counts import UnreadCounts
from homeserver.push.evaluators import Evaluators
from homeserver.push.notifications import Notifications
from homeserver.push.notifications_api import NotificationsApi
from homeserver.push.pushers.api import PushersApi, plainly_reached
from homeserver.push.pushers.badges import Badges
from homeserver.push.pushers.content import Content
from homeserver.push.pushers.delivery import Delivery
from homeserver.push.pushers.figures import PusherFigures
from homeserver.push.pushers.gateway import Gateways
from homeserver.push.pushers.interest import Interest
from homeserver.push.pushers.resume import Resume
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.sources import ReadSource
from homeserver.push.pushers.types import PushersChanged, PushersChangedSink
from homeserver.push.recent import RecentEvents
from homeserver.push.service import PushRuleService
from homeserver.push.stream import UnreadStream
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.periodic import every
from homeserver.sync.types import Ignores
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of


class PushFeature:
    """Rules, their endpoints, and what they make of events."""

    def __init__(self, core: Core, account_data: AccountDataService) -> None:
        self.rules = PushRuleService(core.db, core.log, account_data)
        self.evaluators = Evaluators(core.db, core.memory)
        self._recent = recent = RecentEvents(core.tail)
        self.counts = UnreadCounts(
            core.db, core.tail, core.rooms, core.events, core.interning, self.evaluators, recent
        )
        self.stream = UnreadStream(core.db)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="push",
            apis=[PushRulesApi(self.rules)],
            projections=[self.evaluators, self._recent, self.counts],
            streams=[self.stream],
            forgets=[self.rules],
        )


class NotificationsFeature:
    """What one was notified of."""

    def __init__(self, core: Core, push: PushFeature, memberships: Memberships, ignores: Ignores) -> None:
        self.service = Notifications(
            core.db,
            core.rooms,
            core.events,
            core.interning,
            memberships,
            ignores,
            push.evaluators,
            core.clock,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(name="push.notifications", apis=[NotificationsApi(self.service)])


READER = "pushers"
AT_ONCE = 48
"""Users that are notified at the same time; as many again whose gateway is slow or fails."""
BATCH = 20
"""Entries of a user that are looked at together; what is unread is counted once for them."""
BACK_EVERY = 60.0


class PushersFeature:
    """Notifying clients that are not looking."""

    def __init__(
        self, config: Config, core: Core, push: PushFeature, memberships: Memberships, ignores: Ignores
    ) -> None:
        self._core = core
        self._plain = plainly_reached(config.outbound.allow_private.push)
        self._outbound = outbound_of(config.outbound)
        self.service = PusherService(core.db, core.log)
        self.gateways = Gateways(self._outbound, core.clock, core.entropy)
        self._resume = Resume(core.db, core.events, core.interning, memberships, ignores, core.clock)
        self.delivery = Delivery(
            self.service,
            Badges(push.counts, memberships, ignores, core.interning, core.events),
            push.evaluators,
            push.rules,
            Content(core.rooms, core.events),
            self.gateways,
            core.rooms,
            core.events,
        )
        self.interest = Interest(core.db, core.rooms, push.evaluators, core.memory, self.delivery.may_show)
        self.delivery.run_with(self.interest)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="push.pushers",
            apis=[PushersApi(self.service, self._core.clock, self._plain)],
            sinks=[PushersChangedSink()],
            projections=[self.interest],
            readers=[self._reader()],
            device_listeners=[self.service],
            forgets=[self.service],
            periodic=[every(BACK_EVERY, self._try_again, name="push.back", wake=self.gateways.back)],
            collectors=[PusherFigures(self.gateways)],
            stop=[self._outbound.close],
        )

    def _reader(self) -> Reader:
        return Reader(
            name=READER,
            sources=[EventSource(self._core.events), ReadSource(), FreshSource(PushersChanged)],
            interest=self.interest.of,
            deliver=self.delivery.deliver,
            resume=self._resume.of,
            batch=BATCH,
            at_once=AT_ONCE,
            struggling_at_once=AT_ONCE,
            timeout=120.0,
            backoff=Backoff(first=0.5, longest=600.0, jitter=0.3),
        )

    async def _try_again(self) -> None:
        """Once: a gateway is back, so those are told who wait for it. Others that fail ask once more, too."""
        if self.gateways.recovered:
            self.gateways.recovered = False
            await commands.retry(self._core.db, READER, None)
