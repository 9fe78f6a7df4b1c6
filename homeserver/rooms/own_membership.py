"""A user's own membership events, in all rooms at once: with a new name or picture, or leaving.

Fulfils `ProfilePropagation` and `LeaveAllRooms`. Both may be begun again after a crash: a room that is as it should be
is passed over.

spec: client-server-api/#events-on-change-of-profile-information (USER-03), #account-deactivation (AUTH-29)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from homeserver.events.builder import EventDraft
from homeserver.graph.interning import Interning
from homeserver.graph.refs import INVITE, JOIN, KNOCK
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.write.append import EventPlan, GraphWriter, Send
from homeserver.log.tail import Tail
from homeserver.matrix.errors import Forbidden, NotFound
from homeserver.matrix.ids import UserId
from homeserver.policy.passages import system_passage
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.memberships import Memberships
from homeserver.rooms.ports import RemoteWish

_log = structlog.get_logger("atrium.rooms")

AT_ONCE = 32
"""Rooms written to at the same time: as many as one batch takes well, few enough to leave room for others."""
MEMBER = "m.room.member"
CARRIED = ("displayname", "avatar_url")
"""What a membership event carries of a profile."""


class OwnMembership:
    """Writes to every room of a user."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        graph: GraphWriter,
        rooms: Rooms,
        memberships: Memberships,
        interning: Interning,
        tail: Tail,
        elsewhere: Elsewhere,
    ) -> None:
        self._graph = graph
        self._rooms = rooms
        self._elsewhere = elsewhere
        self._memberships = memberships
        self._interning = interning
        self._tail = tail

    async def profile_changed(self, user_id: UserId, profile: Mapping[str, Any]) -> None:
        """Send a new join event where the last one has another name or picture."""
        wanted = {key: profile[key] for key in CARRIED if key in profile}

        def plan(head: Head) -> Sequence[Send]:
            own = head.event((MEMBER, user_id))
            if own is None or own.membership != "join":
                return []
            if {key: own.content[key] for key in CARRIED if key in own.content} == wanted:
                return []
            # Nothing else is copied, above all not who authorised the join: that was about the join then.
            return [Send(EventDraft(MEMBER, user_id, user_id, {**wanted, "membership": "join"}))]

        await self._everywhere(user_id, (JOIN,), plan, "the profile has changed")

    async def leave_all_rooms(self, user_id: UserId) -> None:
        """Leave joined rooms, turn down invites, take back knocks."""

        def plan(head: Head) -> Sequence[Send]:
            if head.membership(user_id) not in ("join", "invite", "knock"):
                return []
            return [Send(EventDraft(MEMBER, user_id, user_id, {"membership": "leave"}))]

        await self._everywhere(user_id, (JOIN, INVITE, KNOCK), plan, "the account has ended")

    async def _everywhere(
        self, user_id: UserId, memberships: Collection[int], plan: EventPlan, reason: str
    ) -> None:
        """Rooms that refuse are noted and passed over: the others must not wait for what will never be allowed."""
        await self._tail.fresh()
        user_nid = await self._interning.user_nid(user_id)
        rooms = (await self._memberships.of(user_nid)).with_membership(*memberships)
        turn = asyncio.Semaphore(AT_ONCE)
        passage = system_passage(reason, user_nid)

        async def write(room_nid: int) -> None:
            async with turn:
                try:
                    room = await self._rooms.get(room_nid)
                    if room.away:  # an invite that is turned down, a knock that is taken back
                        await self._elsewhere.leave(RemoteWish(user_id, room.name.room_id, {}, (), passage))
                        return
                    await self._graph.append(room_nid, plan, passage)
                except (Forbidden, NotFound) as refusal:
                    _log.warning("own_membership_refused", room_nid=room_nid, why=refusal.error)

        await _all(write, rooms)


async def _all(write: Callable[[int], Any], rooms: Collection[int]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for room_nid in rooms:
                group.create_task(write(room_nid))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
