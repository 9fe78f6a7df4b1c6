"""Push rules, put together."""

from __future__ import annotations

from homeserver.account_data.service import AccountDataService
from homeserver.push.api import PushRulesApi
from homeserver.push.service import PushRuleService
from homeserver.wiring.core import Core


class PushFeature:
    """Service and endpoints."""

    def __init__(self, core: Core, account_data: AccountDataService) -> None:
        self.rules = PushRuleService(core.db, core.log, account_data)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [PushRulesApi(self.rules)]
