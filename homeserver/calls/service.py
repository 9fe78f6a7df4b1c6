"""Who may enter a call: whoever proves to be a member of its room.

spec: MSC4195; as lk-jwt-service answers, which clients expect at the same paths
"""

from __future__ import annotations

from typing import Final, NamedTuple

import structlog

from homeserver.accounts.openid import OpenIdTokens
from homeserver.calls.delegation import DelegatedLeaves
from homeserver.calls.livekit import LiveKitServer, hashed_name
from homeserver.calls.types import Delegated, OpenIdProof, RemoteOpenId
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix.errors import BadJson, Forbidden, NotFound, Unauthorized
from homeserver.matrix.ids import RoomId, ServerName, UserId, domain_of
from homeserver.runtime.causes import Causes
from homeserver.web.auth import Requester
from homeserver.web.outbound import OutboundError

_log = structlog.get_logger("atrium.calls")

WHOLE_ROOM: Final = "m.call#ROOM"
"""The slot of the one call that a room has."""


class Member(NamedTuple):
    """Who says to be in which call. `member_id` None: as clients said it before memberships had ids."""

    room_id: RoomId
    slot_id: str
    user_id: UserId | None
    """As they claim; None: whoever has the token."""
    device_id: str
    member_id: str | None


class Admission(NamedTuple):
    """What lets into a call."""

    url: str
    jwt: str


class CallTokens:
    """Gives tokens for LiveKit."""

    def __init__(
        self, server: LiveKitServer, leaves: DelegatedLeaves, openid: OpenIdTokens, rooms: Rooms, server_name: ServerName
    ) -> None:  # fmt: skip
        self._server = server
        self._leaves = leaves
        self._openid = openid
        self._rooms = rooms
        self._server_name = server_name
        self._remote: RemoteOpenId | None = None
        self._causes = Causes(_log, "livekit_room_not_created")

    def ask_with(self, remote: RemoteOpenId) -> None:
        """Plug in who asks other servers whose a token is."""
        self._remote = remote

    async def admit(self, member: Member, proof: OpenIdProof, delegated: Delegated | None) -> Admission:
        """A token for the call. Users of this server bring its room about, and may leave us the end of their membership.

        Raises `Unauthorized` for a token that proves nothing, `Forbidden` for whoever is not in the room, `BadJson` for a
        membership of another server's user that is to be ended here.
        """
        user_id, is_ours = await self._who(member, proof)
        if delegated is not None and not is_ours:
            raise BadJson("delay_id: only memberships of users of this server are ended here")
        room, identity = hashed_name(member.room_id, member.slot_id), _identity(member, user_id)
        if is_ours:
            await self._create(room)
            if delegated is not None:
                await self._delegate(room, identity, delegated)
        return Admission(self._server.livekit.url, self._server.token(room, identity))

    async def delegate(self, member: Member, proof: OpenIdProof, delegated: Delegated) -> None:
        """Leave us the end of a membership. Raises as `admit`, but `Forbidden` for users of other servers."""
        user_id, is_ours = await self._who(member, proof)
        if not is_ours:
            raise Forbidden("Only memberships of users of this server are ended here")
        await self._delegate(
            hashed_name(member.room_id, member.slot_id), _identity(member, user_id), delegated
        )

    async def delegate_own(self, requester: Requester, member: Member, delay_id: str) -> None:
        """Likewise, for who is logged in and has scheduled it.

        Raises `Forbidden` for whoever is not in the room, `NotFound` for what is none of their delayed events of the room, or
        is not scheduled.
        """
        await self._require_joined(member.room_id, requester.user_id)
        delay_ms = await self._leaves.delay_of(requester, member.room_id, delay_id)
        room = hashed_name(member.room_id, member.slot_id)
        await self._leaves.delegate(room, _identity(member, requester.user_id), Delegated(delay_id, delay_ms))

    async def _who(self, member: Member, proof: OpenIdProof) -> tuple[UserId, bool]:
        is_ours = proof.server_name == self._server_name
        if is_ours:
            user_id = await self._openid.user_of(proof.token)
        else:
            user_id = await self._remote.user_of(proof) if self._remote is not None else None
        # spec: server-server-api/#openid: a server speaks for its own users alone (FED-40)
        if user_id is None or domain_of(user_id) != proof.server_name:
            raise Unauthorized("The request could not be authorised")
        if member.user_id not in {None, user_id}:
            raise Unauthorized("The request could not be authorised")
        await self._require_joined(member.room_id, user_id)
        return user_id, is_ours

    async def _require_joined(self, room_id: RoomId, user_id: UserId) -> None:
        room = await self._rooms.by_id(room_id)
        if room is None or room.away or room.membership(user_id) != JOIN:
            raise Forbidden("You are not in this room")

    async def _create(self, room: str) -> None:
        """Where LiveKit makes rooms by itself, it does no harm that it cannot be asked."""
        try:
            await self._server.create_room(room)
        except OutboundError as error:
            self._causes.tell(error)
        else:
            self._causes.over()

    async def _delegate(self, room: str, identity: str, delegated: Delegated) -> None:
        try:
            await self._leaves.delegate(room, identity, delegated)
        except NotFound:
            raise BadJson("delay_id: no delayed event of this server") from None


def _identity(member: Member, user_id: UserId) -> str:
    if member.member_id is None:
        return f"{user_id}:{member.device_id}"
    return hashed_name(user_id, member.device_id, member.member_id)
