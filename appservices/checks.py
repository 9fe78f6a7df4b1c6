"""What acts pass before they are written: aliases belong to whom they are reserved for, and a service is asked for a user
whom somebody invites and nobody knows.

spec: application-service-api/#registration `exclusive` (CHECKLIST AS-04), #querying (AS-15)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appservices.queries import Queries, QueryTimedOut
from appservices.registry import Registry
from homeserver.matrix.errors import Exclusive, MatrixError
from homeserver.matrix.ids import RoomAlias, ServerName, UserId, domain_of
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from homeserver.web.auth import Requester


class AliasOwnership:
    """Fulfils `homeserver.rooms.ports.ReservedAliases`; also a check of the policy gate."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def check(self) -> Check:
        """See `Manifest.policy`."""
        return Check(
            name="appservices.aliases", kinds={Kind.ALIAS}, decide=self._decide, when_failing="refuse"
        )

    def refusal(self, requester: Requester, alias: RoomAlias) -> MatrixError | None:
        """Why somebody may neither give nor take an alias; None: they may."""
        service_id = requester.appservice_id
        if service_id is None:
            owner = self._registry.alias_claimed_by(alias)
            return None if owner is None else Exclusive("This alias is reserved by an application service")
        service = self._registry.services.get(service_id)
        if service is None or not service.watches_alias(alias):
            return Exclusive("This alias is not one of the application service's")
        owner = self._registry.alias_claimed_by(alias)
        if owner not in {None, service_id} and not service.owns_alias(alias):
            return Exclusive("This alias is reserved by another application service")
        return None

    async def _decide(self, act: Act) -> Verdict:
        if act.requester is None:
            return ALLOW
        refusal = self.refusal(act.requester, RoomAlias(str(act.content["alias"])))
        return ALLOW if refusal is None else Refuse(refusal)


class InviteeQuery:
    """A check of the policy gate that refuses nothing but what times out: it has services make the users that are invited."""

    def __init__(
        self,
        queries: Queries,
        registry: Registry,
        is_account: Callable[[UserId], Awaitable[bool]],
        server_name: ServerName,
    ) -> None:
        self._queries = queries
        self._registry = registry
        self._is_account = is_account
        self._server_name = server_name

    @property
    def check(self) -> Check:
        """See `Manifest.policy`."""
        return Check(
            name="appservices.invitees",
            kinds={Kind.INVITE},
            decide=self._decide,
            when_failing="allow",
            elsewhere=True,
            timeout=15.0,
        )

    async def _decide(self, act: Act) -> Verdict:
        target = act.target
        if target is None or domain_of(target) != self._server_name:
            return ALLOW
        if not any(each.watches(target) for each in self._registry.services.values()):
            return ALLOW
        if not await self._is_account(target):
            try:
                await self._queries.user(target)
            except QueryTimedOut as late:
                return Refuse(late)
        return ALLOW
