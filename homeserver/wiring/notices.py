"""Server notices, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.matrix.ids import UserId
from homeserver.notices.api import ServerNoticesApi
from homeserver.notices.service import Conversations, Look, People, ServerNotices
from homeserver.notices.usage import EVERY, UsageNotices
from homeserver.runtime.periodic import every
from homeserver.wiring.account_data import AccountDataFeature
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature


class NoticesFeature:
    """Service and endpoints."""

    def __init__(
        self,
        config: Config,
        core: Core,
        accounts: AccountsFeature,
        rooms: RoomsFeature,
        account_data: AccountDataFeature,
    ) -> None:
        section, look = config.server_notices, None
        if section.enabled:
            look = Look(
                sender=UserId(f"@{section.sender}:{core.server_name}"),
                display_name=section.display_name,
                avatar_url=section.avatar_url,
                room_name=section.room_name,
            )
            account_data.invites.let(look.sender)
        self._enabled = look is not None
        self.service = ServerNotices(
            core.db,
            core.rooms,
            core.interning,
            People(accounts.accounts, accounts.registration, accounts.profiles),
            Conversations(rooms.creation, rooms.membership, rooms.sending, account_data.service, core.events),
            look,
        )
        self._usage = UsageNotices(core.db, self.service, accounts.usage, config.server.contact_uri)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="notices",
            apis=[ServerNoticesApi(self.service)],
            periodic=[every(EVERY, self._usage.tell, name="notices.usage", once_in_cluster=True)]
            if self._enabled
            else [],
            policy=[self.service.check] if self._enabled else [],
            forgets=[self.service],
        )
