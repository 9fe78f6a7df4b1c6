"""Incoming webhooks, put together."""

from __future__ import annotations

from homeserver.hooks.administration import HookAdministration
from homeserver.hooks.api import HooksApi
from homeserver.hooks.members_api import MembersHooksApi
from homeserver.hooks.rights import HookRights
from homeserver.hooks.service import HookService
from homeserver.hooks.types import JOIN
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class HooksFeature:
    """Service and endpoints."""

    def __init__(
        self, core: Core, accounts: AccountsFeature, rooms: RoomsFeature, limiter: RateLimiter
    ) -> None:
        rights = HookRights(core.rooms, core.events)
        self._members = MembersHooksApi(hook_administration_of(core, accounts), rights)
        self.service = HookService(core.db, core.rooms, rooms.sending, rooms.membership, limiter, core.clock)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="hooks", apis=[HooksApi(self.service), self._members], jobs={JOIN: self.service.join}
        )


def hook_administration_of(core: Core, accounts: AccountsFeature) -> HookAdministration:
    """Making and revoking them, for commands."""
    return HookAdministration(
        db=core.db,
        jobs=core.jobs,
        rooms=core.rooms,
        tail=core.tail,
        registration=accounts.registration,
        profiles=accounts.profiles,
        ending=accounts.ending,
        server_name=core.server_name,
        clock=core.clock,
        entropy=core.entropy,
    )
