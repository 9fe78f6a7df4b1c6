"""Membership: inviting, joining, knocking, leaving, kicking, banning, forgetting.

spec: client-server-api/#room-membership (ROOM-13 to ROOM-17)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from homeserver.events.auth_rules.power import can_act
from homeserver.events.builder import EventDraft
from homeserver.events.room_version import DEFAULT_ROOM_VERSION
from homeserver.events.validation import check_client_event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import BAN, INVITE, JOIN, KNOCK, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import EventPlan, GraphWriter, Send
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import (
    BadState,
    Forbidden,
    NotFound,
    UnableToAuthoriseJoin,
    UnableToGrantJoin,
    Unknown,
)
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.policy.gate import Gate
from homeserver.policy.passages import Passage, system_passage
from homeserver.policy.types import event_act
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.entries import ForgetEntry
from homeserver.rooms.guests import GUEST_ACCESS, lets_guests_in
from homeserver.rooms.ports import Profiles, RemoteWish
from homeserver.rooms.restricted import RestrictedJoins
from homeserver.rooms.sending import require_guest_access, require_joined
from homeserver.rooms.successors import Successors
from homeserver.web.auth import Requester

MEMBER = "m.room.member"
EMPTY: Mapping[str, Any] = MappingProxyType({})


_NOT_OURS_TO_SAY = frozenset({"membership", "third_party_signed", "via", "join_authorised_via_users_server"})
"""What may stand in the body of a join and does not become part of the event as the client wrote it."""


class MembershipService:
    """Acts of membership; transitions themselves are the auth rules' business. All raise what policy checks say."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        graph: GraphWriter,
        log: LogWriter,
        rooms: Rooms,
        events: EventCache,
        profiles: Profiles,
        gate: Gate,
        successors: Successors,
        elsewhere: Elsewhere,
        *,
        forget_on_leave: bool = False,
    ) -> None:
        """`forget_on_leave`: whoever leaves, is removed or banned has forgotten the room (CAP-04)."""
        self._graph = graph
        self._log = log
        self._rooms = rooms
        self._profiles = profiles
        self._gate = gate
        self._successors = successors
        self._elsewhere = elsewhere
        self._forget_on_leave = forget_on_leave
        self._restricted = RestrictedJoins(rooms, events)

    async def invite(
        self, requester: Requester, room_id: RoomId, target: UserId, reason: str | None = None
    ) -> None:
        """Invite a user; inviting an invited user again succeeds without an event (ROOM-14). Raises `Forbidden`, and what the
        server of a user of another one says.
        """
        room = await self._rooms.known(room_id)
        passage = await self._pass(requester, room_id, target, "invite", reason)
        profile = await self._profiles.membership_fields(target)
        if self._elsewhere.possible and self._elsewhere.is_remote(target):
            await self._elsewhere.invite(
                room, _member(requester.user_id, target, "invite", reason, profile).draft
            )
            return

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            if head.membership(target) == "invite":
                return []
            return [_member(requester.user_id, target, "invite", reason, profile)]

        await self._graph.append(room.name.nid, plan, passage)

    async def join(
        self,
        requester: Requester,
        room_id: RoomId,
        content: Mapping[str, Any] | None = None,
        servers: Sequence[ServerName] = (),
    ) -> RoomId:
        """Join a room, here or through another server; joining again does nothing. `servers`: which may know the room.

        Raises `NotFound`, `Forbidden`; `BadJson`, `TooLarge` for what the client wrote; what `RemoteRooms.join` raises.
        """
        room = await self._rooms.by_id(room_id)
        user_id = requester.user_id
        profile = await self._profiles.membership_fields(user_id)
        extra = {key: value for key, value in (content or {}).items() if key not in _NOT_OURS_TO_SAY}
        version = room.name.version if room is not None else DEFAULT_ROOM_VERSION
        check_client_event(MEMBER, user_id, {**extra, "membership": "join"}, version)
        passage = await self._pass(requester, room_id, user_id, "join", fields=extra)
        wish = RemoteWish(user_id, room_id, {**extra, **profile}, servers, passage)
        if room is None or room.away:
            room = await self._join_elsewhere(requester, wish)
        authoriser = await self._authoriser(room, wish)

        def plan(head: Head) -> Sequence[Send]:
            if head.membership(user_id) == "join":
                return []
            if requester.is_guest:
                require_guest_access(head)
            fields: dict[str, Any] = {**extra, **profile}
            if authoriser is not None and head.membership(user_id) != "invite":
                fields["join_authorised_via_users_server"] = authoriser
            return [_member(user_id, user_id, "join", fields=fields)]

        if await self._graph.append(room.name.nid, plan, passage):
            await self._successors.joined(requester, room)
        return room_id

    async def _join_elsewhere(self, requester: Requester, wish: RemoteWish) -> Room:
        """The room, which this server is in now."""
        if requester.is_guest and self._elsewhere.possible:
            raise Forbidden("Guests may join only rooms that this server is in")
        room = await self._elsewhere.join(wish)
        if room.membership(wish.user_id) == JOIN:
            await self._successors.joined(requester, room)
        return room

    async def _authoriser(self, room: Room, wish: RemoteWish) -> UserId | None:
        """Who of ours vouches for the join, if somebody has to. Where this server cannot tell, or may not, another one in the room
        is asked, and the user has joined then (JOIN-01).
        """
        if room.membership(wish.user_id) == JOIN:
            return None
        try:
            return await self._restricted.authoriser(room, wish.user_id)
        except (UnableToAuthoriseJoin, UnableToGrantJoin) as unable:
            if not self._elsewhere.possible or room.joined_count == len(room.local_joined):
                raise Forbidden(unable.error) from unable
            await self._elsewhere.join(wish)
            return None

    async def knock(
        self,
        requester: Requester,
        room_id: RoomId,
        reason: str | None = None,
        servers: Sequence[ServerName] = (),
    ) -> RoomId:
        """Ask to be let in; knocking again renews it. `servers`: which may know the room. Raises `NotFound`, `Forbidden`, what
        `RemoteRooms.knock` raises.
        """
        room = await self._rooms.by_id(room_id)
        user_id = requester.user_id
        profile = await self._profiles.membership_fields(user_id)
        passage = await self._pass(requester, room_id, user_id, "knock", reason)
        if room is None or room.away:
            content = _member(user_id, user_id, "knock", reason, profile).draft.content
            await self._elsewhere.knock(RemoteWish(user_id, room_id, content, servers, passage))
            return room_id
        await self._graph.append(
            room.name.nid, lambda _: [_member(user_id, user_id, "knock", reason, profile)], passage
        )
        return room_id

    async def leave(self, requester: Requester, room_id: RoomId, reason: str | None = None) -> None:
        """Leave, reject an invite or take back a knock; leaving twice does nothing. Raises `Forbidden`, `NotFound`."""
        room = await self._rooms.by_id(room_id)
        if room is None:
            raise NotFound("You are not in this room")

        def plan(head: Head) -> Sequence[Send]:
            membership = head.membership(requester.user_id)
            if membership == "leave":
                return []
            if membership is None:
                raise Forbidden("You are not in this room")
            return [_member(requester.user_id, requester.user_id, "leave", reason)]

        passage = await self._pass(requester, room_id, requester.user_id, "leave", reason)
        if room.away and room.membership(requester.user_id) in (INVITE, KNOCK):
            content = {} if reason is None else {"reason": reason}
            wish = RemoteWish(requester.user_id, room_id, content, (), passage)
            await self._elsewhere.leave(wish)
            await self._forget(await self._rooms.known(room_id), [requester.user_id])
            return
        if room.away and room.membership(requester.user_id) == LEAVE:
            return
        await self._end_stay(room, plan, passage)

    async def kick(
        self,
        requester: Requester,
        room_id: RoomId,
        target: UserId,
        reason: str | None = None,
        fields: Mapping[str, Any] = EMPTY,
    ) -> None:
        """Remove somebody, or take back their invite or knock. `fields`: what else the event says. Raises `Forbidden`."""
        room = await self._rooms.known(room_id)

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            if head.membership(target) not in ("join", "invite", "knock"):
                raise Forbidden("The user is not in this room")
            return [_member(requester.user_id, target, "leave", reason, fields)]

        passage = await self._pass(requester, room_id, target, "leave", reason, fields)
        await self._end_stay(room, plan, passage)

    async def ban(
        self,
        requester: Requester,
        room_id: RoomId,
        target: UserId,
        reason: str | None = None,
        fields: Mapping[str, Any] = EMPTY,
    ) -> None:
        """Ban a user, here or not; banning again does nothing. `fields`: as in `kick`. Raises `Forbidden`."""
        room = await self._rooms.known(room_id)

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            if head.membership(target) == "ban":
                return []
            return [_member(requester.user_id, target, "ban", reason, fields)]

        passage = await self._pass(requester, room_id, target, "ban", reason, fields)
        await self._end_stay(room, plan, passage)

    async def unban(
        self, requester: Requester, room_id: RoomId, target: UserId, reason: str | None = None
    ) -> None:
        """Let a banned user come back. Raises `BadState` if not banned (ROOM-16), `Forbidden`."""
        room = await self._rooms.known(room_id)

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            if head.membership(target) != "ban":
                levels = head.state([("m.room.create", ""), ("m.room.power_levels", "")])
                if not can_act(levels, requester.user_id, "ban", head.name.version):
                    raise Forbidden("You may not unban here")
                raise BadState("The user is not banned")
            return [_member(requester.user_id, target, "leave", reason)]

        passage = await self._pass(requester, room_id, target, "leave", reason)
        await self._graph.append(room.name.nid, plan, passage)

    async def forget(self, requester: Requester, room_id: RoomId) -> None:
        """Hear no more of a room one has left. Raises `Unknown` (400) while still in it (ROOM-17)."""
        room = await self._rooms.by_id(room_id)
        member = room.members.get(requester.user_id) if room else None
        if room is None or member is None:
            raise Unknown("You have not been in this room")
        if member.membership not in (LEAVE, BAN):
            raise Unknown("Leave the room before forgetting it")
        entry = ForgetEntry(requester.user_nid, room.name.nid, member.event_nid)
        await self._log.append(entry)

    async def end_guests(self, room: Room, guests: list[UserId]) -> None:
        """Guests who are in the room leave it, if it does not let guests in (GUEST-02). Those who have left stay as they are."""

        def plan(head: Head) -> Sequence[Send]:
            if lets_guests_in(head.event(GUEST_ACCESS)):
                return []
            inside = [guest for guest in guests if head.is_joined(guest)]
            return [
                _member(guest, guest, "leave", "Guests may not be in this room any more") for guest in inside
            ]

        await self._end_stay(room, plan, system_passage("the room lets guests in no more"))

    async def _pass(  # noqa: PLR0917  # what a membership event says, in its order
        self,
        requester: Requester,
        room_id: RoomId,
        target: UserId,
        membership: str,
        reason: str | None = None,
        fields: Mapping[str, Any] = EMPTY,
    ) -> Passage:
        draft = _member(requester.user_id, target, membership, reason, fields).draft
        act = event_act(requester, room_id, (MEMBER, target), draft.content)
        return await self._gate.admit(requester, act)

    async def _end_stay(self, room: Room, plan: EventPlan, passage: Passage) -> None:
        written = await self._graph.append(room.name.nid, plan, passage)
        await self._forget(room, [UserId(persisted.event.state_key or "") for persisted in written])

    async def _forget(self, room: Room, users: Sequence[UserId]) -> None:
        if not self._forget_on_leave:
            return
        members = [room.members.get(user) for user in users]
        entries = [
            ForgetEntry(member.user_nid, room.name.nid, member.event_nid)
            for member in members
            if member is not None and member.local and member.membership in (LEAVE, BAN)
        ]
        if entries:
            await self._log.append(*entries)


def _member(
    sender: UserId,
    target: UserId,
    membership: str,
    reason: str | None = None,
    fields: Mapping[str, Any] = EMPTY,
) -> Send:
    content = {**fields, "membership": membership}
    if reason is not None:
        content["reason"] = reason
    return Send(EventDraft(MEMBER, target, sender, content))
