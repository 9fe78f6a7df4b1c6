"""Endpoints of joining, knocking, leaving and inviting, for other servers.

spec: op:makeJoin, op:sendJoinV2, op:makeKnock, op:sendKnock, op:makeLeave, op:sendLeaveV2, op:sendInviteV1, op:sendInviteV2
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from federation.handshakes.invited import Invitation, Invited
from federation.handshakes.join_answers import JoinAnswers
from federation.handshakes.residents import Asked, Residents
from federation.handshakes.shown import shown_of
from federation.handshakes.third_party import Bound, PartialInvite, ThirdPartyInvites
from homeserver.graph.event_cache import EventCache
from homeserver.matrix.ids import EventId, RoomId, UserId
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson

V1: Final = "/_matrix/federation/v1"
V2: Final = "/_matrix/federation/v2"
FIRST: Final = ["1"]
"""Room versions of servers that do not say which they know."""


class InviteBody(msgspec.Struct):
    """spec: op:sendInviteV2."""

    room_version: str
    event: dict[str, Any]
    invite_room_state: list[Any] = []


class HandshakesApi:
    """For servers whose users come into rooms of ours, or invite ours into theirs."""

    def __init__(
        self,
        residents: Residents,
        answers: JoinAnswers,
        invited: Invited,
        third_party: ThirdPartyInvites,
        events: EventCache,
    ) -> None:
        self._third_party = third_party
        self._residents = residents
        self._answers = answers
        self._invited = invited
        self._events = events

    @endpoint("makeJoin", "GET", f"{V1}/make_join/{{roomId}}/{{userId}}", auth=Auth.SERVER)
    async def make_join(
        self, origin: Origin, room_id: Path[RoomId], user_id: Path[UserId], ver: Query[list[str]] = FIRST
    ) -> dict[str, Any]:
        """Prepares a join (FED-18)."""
        return await self._residents.make(Asked(origin.server_name, room_id, "join"), user_id, ver)

    @endpoint("sendJoinV2", "PUT", f"{V2}/send_join/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def send_join(
        self,
        origin: Origin,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        body: Body[dict[str, Any]],
        omit_members: Query[bool] = False,
    ) -> StreamedJson:
        """Lets a user in, and tells their server the room (FED-20)."""
        room, join = await self._residents.accept(Asked(origin.server_name, room_id, "join"), event_id, body)
        return await self._answers.of(room, join, omit_members=omit_members)

    @endpoint("makeKnock", "GET", f"{V1}/make_knock/{{roomId}}/{{userId}}", auth=Auth.SERVER)
    async def make_knock(
        self, origin: Origin, room_id: Path[RoomId], user_id: Path[UserId], ver: Query[list[str]]
    ) -> dict[str, Any]:
        """Prepares a knock (FED-24)."""
        return await self._residents.make(Asked(origin.server_name, room_id, "knock"), user_id, ver)

    @endpoint("sendKnock", "PUT", f"{V1}/send_knock/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def send_knock(
        self, origin: Origin, room_id: Path[RoomId], event_id: Path[EventId], body: Body[dict[str, Any]]
    ) -> RawJson:
        """Lets a user knock, and tells what they may know of the room (FED-24)."""
        room, _ = await self._residents.accept(Asked(origin.server_name, room_id, "knock"), event_id, body)
        shown = await shown_of(self._events, room)
        return RawJson(b'{"knock_room_state":[%b]}' % b",".join(event.pdu for event in shown))

    @endpoint("makeLeave", "GET", f"{V1}/make_leave/{{roomId}}/{{userId}}", auth=Auth.SERVER)
    async def make_leave(
        self, origin: Origin, room_id: Path[RoomId], user_id: Path[UserId]
    ) -> dict[str, Any]:
        """Prepares that a user leaves, turns down an invite or takes back a knock (FED-28)."""
        return await self._residents.make(Asked(origin.server_name, room_id, "leave"), user_id, None)

    @endpoint("sendLeaveV2", "PUT", f"{V2}/send_leave/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def send_leave(
        self, origin: Origin, room_id: Path[RoomId], event_id: Path[EventId], body: Body[dict[str, Any]]
    ) -> None:
        """Lets a user out."""
        await self._residents.accept(Asked(origin.server_name, room_id, "leave"), event_id, body)

    @endpoint("sendInviteV2", "PUT", f"{V2}/invite/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def invite(
        self, origin: Origin, room_id: Path[RoomId], event_id: Path[EventId], body: Body[InviteBody]
    ) -> RawJson:
        """Invites a user of this server (FED-25)."""
        invitation = Invitation(
            origin.server_name, room_id, event_id, body.room_version, body.event, body.invite_room_state
        )
        return RawJson(b'{"event":%b}' % (await self._invited.invite(invitation)).pdu)

    @endpoint("sendInviteV1", "PUT", f"{V1}/invite/{{roomId}}/{{eventId}}", auth=Auth.SERVER)
    async def invite_v1(
        self, origin: Origin, room_id: Path[RoomId], event_id: Path[EventId], body: Body[dict[str, Any]]
    ) -> RawJson:
        """The same, as servers did before there were room versions (FED-26)."""
        unsigned = body.get("unsigned")
        told = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
        state = told if isinstance(told, list) else []
        invitation = Invitation(origin.server_name, room_id, event_id, _old_version(state), body, state)
        return RawJson(b'[200,{"event":%b}]' % (await self._invited.invite(invitation)).pdu)

    @endpoint(
        "exchangeThirdPartyInvite", "PUT", f"{V1}/exchange_third_party_invite/{{roomId}}", auth=Auth.SERVER
    )
    async def exchange(self, origin: Origin, room_id: Path[RoomId], body: Body[PartialInvite]) -> None:
        """Makes an invite by address one of a user (FED-41)."""
        await self._third_party.exchange(origin.server_name, room_id, body)

    @endpoint("onBindThirdPartyIdentifier", "PUT", f"{V1}/3pid/onbind", auth=Auth.NONE)
    @endpoint("onBindThirdPartyIdentifierByPost", "POST", f"{V1}/3pid/onbind", auth=Auth.NONE)
    async def bound(self, body: Body[Bound]) -> None:
        """An identity server tells whose an address is (FED-41); they use POST, the specification says PUT."""
        await self._third_party.bound(body)


def _old_version(state: list[Any]) -> str:
    """Version 1 or 2: what the invite does not say stands in the room's creation, if that is told."""
    for event in state:
        content = event.get("content") if isinstance(event, dict) else None
        if isinstance(content, dict) and event.get("type") == "m.room.create":
            return "2" if content.get("room_version") == "2" else "1"
    return "1"
