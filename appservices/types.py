"""Application services as values.

spec: application-service-api/#registration
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from homeserver.matrix.ids import MAX_ID_BYTES, RoomAlias, RoomId, ServerName, UserId, domain_of

SEPARATOR: Final = "|"
"""Between the id of a service and of its network, in the id of an instance."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Names that a service watches over. `pattern` is compared with the beginning of a name, as Synapse does it."""

    pattern: re.Pattern[str]
    exclusive: bool

    def holds(self, name: str) -> bool:
        """Whether a name (a whole user ID, alias or room ID) is one of these."""
        return len(name) <= MAX_ID_BYTES and self.pattern.match(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A registered application service."""

    id: str
    url: str | None
    """Where it is reached; None: it wants to hear nothing."""
    token_digest: bytes
    """SHA-256 of its `as_token`, which is known nowhere here."""
    hs_token: str = field(repr=False)
    sender: UserId
    """The user it acts as when it names nobody."""
    users: tuple[Namespace, ...] = ()
    aliases: tuple[Namespace, ...] = ()
    rooms: tuple[Namespace, ...] = ()
    protocols: tuple[str, ...] = ()
    """Third-party networks' protocols."""
    limited: bool = True
    """`rate_limited`: whether its users count as others do. The sender never does."""
    ephemeral: bool = False
    """It wants typing, receipts, presence and messages to its users' devices. spec: #pushing-ephemeral-data"""
    encryption: bool = False
    """It wants device lists and key counts: its users' devices do not sync (MSC3202)."""
    origin: str = ""
    """Where it was registered: a file, or the database."""

    def watches(self, user_id: str) -> bool:
        """Whether a user is its sender or in one of its namespaces; only local ones are (CHECKLIST AS-02)."""
        if domain_of(user_id) != domain_of(self.sender):
            return False
        return user_id == self.sender or any(each.holds(user_id) for each in self.users)

    def owns_user(self, user_id: UserId) -> bool:
        """Whether nobody else may have this user."""
        return user_id == self.sender or (self.watches(user_id) and _exclusively(self.users, user_id))

    def watches_alias(self, alias: RoomAlias) -> bool:
        return any(each.holds(alias) for each in self.aliases)

    def owns_alias(self, alias: RoomAlias) -> bool:
        """Whether nobody else may give or take this alias."""
        return _exclusively(self.aliases, alias)

    def watches_room(self, room_id: RoomId) -> bool:
        return any(each.holds(room_id) for each in self.rooms)

    def instance(self, network_id: str) -> str:
        """The id of one of its networks, as clients name it in `third_party_instance_id`."""
        return f"{self.id}{SEPARATOR}{network_id}"


@dataclass(frozen=True, slots=True)
class AsRequester:
    """A service as those see it who let it in. Fulfils `homeserver.sessions.ports.Appservice`."""

    service: Service

    @property
    def id(self) -> str:
        return self.service.id

    @property
    def sender(self) -> UserId:
        return self.service.sender

    @property
    def rate_limited(self) -> bool:
        return self.service.limited

    def covers(self, user_id: UserId) -> bool:
        """See `Appservice.covers`."""
        return self.service.watches(user_id)


def _exclusively(namespaces: Iterable[Namespace], name: str) -> bool:
    return any(each.exclusive and each.holds(name) for each in namespaces)


def sender_of(localpart: str, server_name: ServerName) -> UserId:
    """The user that a service acts as when it names nobody."""
    return UserId(f"@{localpart}:{server_name}")
