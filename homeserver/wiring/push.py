"""Push rules and unread counts, put together."""

from __future__ import annotations

from homeserver.account_data.service import AccountDataService
from homeserver.push.api import PushRulesApi
from homeserver.push.counts import UnreadCounts
from homeserver.push.evaluators import Evaluators
from homeserver.push.notifications import Notifications
from homeserver.push.notifications_api import NotificationsApi
from homeserver.push.pushers_api import PushersApi
from homeserver.push.recent import RecentEvents
from homeserver.push.service import PushRuleService
from homeserver.push.stream import UnreadStream
from homeserver.rooms.memberships import Memberships
from homeserver.sync.types import Ignores
from homeserver.wiring.core import Core


class PushFeature:
    """Rules, their endpoints, and what they make of events."""

    def __init__(self, core: Core, account_data: AccountDataService) -> None:
        self.rules = PushRuleService(core.db, core.log, account_data)
        self.evaluators = Evaluators(core.db)
        recent = RecentEvents(core.tail)
        self.counts = UnreadCounts(
            core.db, core.tail, core.rooms, core.events, core.interning, self.evaluators, recent
        )
        self.stream = UnreadStream(core.db)
        for projection in (self.evaluators, recent, self.counts):
            core.tail.attach(projection)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [PushRulesApi(self.rules), PushersApi()]


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

    def apis(self) -> list[object]:
        """Endpoints."""
        return [NotificationsApi(self.service)]
