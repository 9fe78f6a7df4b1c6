"""Push rules and unread counts, put together."""

from __future__ import annotations

from homeserver.account_data.service import AccountDataService
from homeserver.config import Config
from homeserver.push.api import PushRulesApi
from homeserver.push.counts import UnreadCounts
from homeserver.push.evaluators import Evaluators
from homeserver.push.notifications import Notifications
from homeserver.push.notifications_api import NotificationsApi
from homeserver.push.pushers.api import PushersApi, plainly_reached
from homeserver.push.pushers.service import PusherService
from homeserver.push.pushers.types import PushersChangedSink
from homeserver.push.recent import RecentEvents
from homeserver.push.service import PushRuleService
from homeserver.push.stream import UnreadStream
from homeserver.rooms.memberships import Memberships
from homeserver.sync.types import Ignores
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


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


class PushersFeature:
    """Notifying clients that are not looking."""

    def __init__(self, config: Config, core: Core) -> None:
        self._core = core
        self._plain = plainly_reached(config.outbound.allow_private.push)
        self.service = PusherService(core.db, core.log)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="push.pushers",
            apis=[PushersApi(self.service, self._core.clock, self._plain)],
            sinks=[PushersChangedSink()],
            device_listeners=[self.service],
            forgets=[self.service],
        )
