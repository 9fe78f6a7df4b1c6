"""The check of the policy gate: invites to partners and from them, and rooms of others that somebody here wants to join.

What other servers ask and send is judged where it comes in (`inbound/acl.py`, `handshakes`); here is what local users do, and
invites that come as events of a room that is here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from federation.partners.service import PartnerPolicy
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, ServerName, domain_of
from homeserver.policy.types import ALLOW, MEMBER, Act, Check, Kind, Refuse, Verdict

JoinedServers = Callable[[int], Awaitable[frozenset[str]]]
"""The other servers that are in a room (its number)."""


def _comes(act: Act) -> bool:
    """A join that comes from elsewhere was judged where it came in."""
    return act.kind is Kind.JOIN and act.requester is None


class PartnerCheck:
    """Fulfils what `docs/decisions/0015-policy-gate.md` says of checks. Keeps nothing."""

    def __init__(
        self, partners: PartnerPolicy, rooms: Rooms, joined: JoinedServers, server_name: ServerName
    ) -> None:
        self._partners = partners
        self._rooms = rooms
        self._joined = joined
        self._server_name = server_name
        self.check = Check(
            name="federation.partners",
            kinds=frozenset({Kind.INVITE, Kind.JOIN}),
            types=frozenset({MEMBER}),
            decide=self._decide,
            when_failing="refuse",
            elsewhere=True,
            spares=_comes,
        )

    async def _decide(self, act: Act) -> Verdict:
        if act.kind is Kind.JOIN:
            return await self._joining(act) if act.requester is not None else ALLOW
        # The server of the one side that is not ours: of who is invited, or of who invites.
        other = domain_of(act.target or "") if act.requester is not None else domain_of(act.actor)
        if other == self._server_name or (act.requester is None and not self._is_ours(act)):
            return ALLOW
        if act.room_id is None:
            shared = self._partners.may_share_new(other, self._server_name)
        else:
            shared = await self._partners.may_share(other, act.room_id, presumed=other)
        if shared:
            return ALLOW
        self._partners.refused(other, "invite", act.room_id or "")
        return Refuse(
            Forbidden(
                f"Users of {other} may not be invited into this room"
                if act.requester is not None
                else "This server does not share that room with yours"
            )
        )

    def _is_ours(self, act: Act) -> bool:
        return act.target is not None and domain_of(act.target) == self._server_name

    async def _joining(self, act: Act) -> Verdict:
        """Coming into a room that is here: of one that is not, the servers in it are known when another one has let us in."""
        if act.room_id is None or not self._partners.policy.allows_some_alone:
            return ALLOW
        room = await self._rooms.by_id(RoomId(act.room_id))
        if room is None or room.away or room.membership(act.actor) == JOIN:
            return ALLOW
        others = [ServerName(each) for each in await self._joined(room.name.nid)]
        strangers = await self._partners.strangers(others, room.name.room_id)
        if not strangers:
            return ALLOW
        self._partners.refused(strangers[0], "join", room.name.room_id)
        return Refuse(Forbidden(f"This server does not share rooms with {', '.join(strangers[:3])}"))
