"""How much a user has not read, in all rooms together: what stands on the icon of an application.

spec: push-gateway-api/ op:notify `counts` (PUSH-14)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homeserver.account_data.ignores import Ignores
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import INVITE
from homeserver.matrix.ids import UserId
from homeserver.push.counts import Counting, UnreadCounts
from homeserver.rooms.memberships import Memberships, UserRooms
from homeserver.sync.types import Unwanted


class Badge(NamedTuple):
    """A user's state when they are about to be notified."""

    user_nid: int
    user_id: UserId
    rooms: UserRooms
    unwanted: Unwanted
    unread: Mapping[int, int]
    """room_nid -> events that notify and are not read, of joined rooms."""
    invites: int

    @property
    def total(self) -> int:
        return sum(self.unread.values()) + self.invites


class Badges:
    """Counts as `/sync` does, without one. Keeps nothing itself."""

    def __init__(
        self,
        counts: UnreadCounts,
        memberships: Memberships,
        ignores: Ignores,
        interning: Interning,
        events: EventCache,
    ) -> None:
        self._counts = counts
        self._memberships = memberships
        self._ignores = ignores
        self._interning = interning
        self._events = events

    async def of(self, user_nid: int) -> Badge:
        """Of a local user, as of the end of the log."""
        user_id = (await self._interning.user_ids([user_nid]))[user_nid]
        unwanted = await self._ignores.of(user_nid)
        rooms = await self._memberships.of(user_nid)
        names = await self._interning.rooms(rooms.joined)
        unread = await self._counts.notifications(Counting(user_nid, user_id, unwanted), names)
        invites = 0 if unwanted.all_invites else await self._invites(rooms, unwanted)
        return Badge(user_nid, user_id, rooms, unwanted, unread, invites)

    async def prepare(self, user_nids: Sequence[int]) -> None:
        """Have in memory what `of` will ask for of these users, as far as that can be had together: few queries for all."""
        user_ids = await self._interning.user_ids(user_nids)
        await self._ignores.prepare(user_nids)
        await self._memberships.prepare(user_nids)
        readers = [Counting(nid, user_id, await self._ignores.of(nid)) for nid, user_id in user_ids.items()]
        rooms = {nid: (await self._memberships.of(nid)).joined for nid in user_nids}
        await self._counts.prepare(readers, rooms)

    async def _invites(self, rooms: UserRooms, unwanted: Unwanted) -> int:
        invited = rooms.with_membership(INVITE)
        if not invited or not unwanted.ignored:
            return len(invited)
        loaded = await self._events.load([rooms.rooms[nid].event_nid for nid in invited])
        return sum(each.event.sender not in unwanted.ignored for each in loaded.values())
