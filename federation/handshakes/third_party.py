"""Invites by address become invites of users: by whom the address is, told by an identity server.

spec: server-server-api/#third-party-invites, op:exchangeThirdPartyInvite, op:onBindThirdPartyIdentifier (FED-41, 3PI-02)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from federation.handshakes.asking import V1
from federation.handshakes.key_validity import KeyValidity
from federation.handshakes.ports import Acls
from federation.handshakes.templates import MEMBER
from federation.ports import Ask, Client, RemoteFault
from homeserver.events.builder import EventDraft
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import GraphWriter, Send
from homeserver.matrix.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.matrix.ids import RoomId, ServerName, UserId, domain_of, is_room_id, is_user_id
from homeserver.policy.passages import system_passage
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.ports import Accounts

_log = structlog.get_logger("atrium.federation.handshakes")

MAX_INVITES: Final = 20
"""Of one address that are looked at."""
SECONDS: Final = 20.0


class PartialInvite(msgspec.Struct):
    """spec: op:exchangeThirdPartyInvite: what becomes an m.room.member event."""

    type: str
    room_id: str
    sender: str
    state_key: str
    content: dict[str, Any]


class StoredInvite(msgspec.Struct):
    """An invite that an identity server has kept for an address."""

    mxid: str
    room_id: str
    sender: str
    signed: dict[str, Any]


class Bound(msgspec.Struct):
    """spec: op:onBindThirdPartyIdentifier."""

    mxid: str
    invites: list[StoredInvite]


class ThirdPartyInvites:
    """Exchanges. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        graph: GraphWriter,
        elsewhere: Elsewhere,
        accounts: Accounts,
        client: Client,
        acls: Acls,
        validity: KeyValidity,
        server_name: ServerName,
    ) -> None:
        self._validity = validity
        self._rooms = rooms
        self._events = events
        self._graph = graph
        self._elsewhere = elsewhere
        self._accounts = accounts
        self._client = client
        self._acls = acls
        self._server_name = server_name

    async def exchange(self, origin: ServerName, room_id: RoomId, invite: PartialInvite) -> None:
        """Invite a user of the asking server by what an identity server has signed; the rules of the room look at it.

        Raises `InvalidParam`, `Forbidden`, `NotFound`, `Unavailable`, and what the user's server says.
        """
        if invite.room_id != room_id:
            raise InvalidParam("room_id: another room")
        if invite.type != MEMBER or invite.content.get("membership") != "invite":
            raise InvalidParam("content.membership: not an invite")
        if not is_user_id(invite.state_key) or domain_of(invite.state_key) != origin:
            raise InvalidParam("state_key: not a user of your server")
        if not is_user_id(invite.sender) or domain_of(invite.sender) != self._server_name:
            raise InvalidParam("sender: not a user of this server")
        told = invite.content.get("third_party_invite")
        signed = told.get("signed") if isinstance(told, Mapping) else None
        if not isinstance(signed, Mapping):
            raise InvalidParam("content.third_party_invite.signed: nothing")
        room = await self._rooms.by_id(room_id)
        if room is None or room.away:
            raise NotFound("This server is not in that room")
        await self._acls.require(room, origin)
        await self._issue(room, UserId(invite.sender), UserId(invite.state_key), signed)

    async def bound(self, told: Bound) -> None:
        """An address was found to be that of a user of ours: the invites that it has got become theirs. Of each that cannot be
        had there is a line in the log. Raises `InvalidParam`, `Forbidden`.
        """
        if not is_user_id(told.mxid):
            raise InvalidParam("mxid: not a user ID")
        user = UserId(told.mxid)
        if domain_of(user) != self._server_name or not await self._accounts.is_local_account(user):
            raise Forbidden("There is no such user here")
        for invite in told.invites[:MAX_INVITES]:
            if invite.mxid != user or not is_room_id(invite.room_id) or not is_user_id(invite.sender):
                continue
            try:
                await self._redeem(user, invite)
            except (MatrixError, RemoteFault) as no:
                _log.warning("handshakes.third_party_invite_refused", room=invite.room_id, why=str(no))

    # --- inside --------------------------------------------------------------------------------------------------------

    async def _redeem(self, user: UserId, invite: StoredInvite) -> None:
        if domain_of(invite.sender) == self._server_name:
            room = await self._rooms.by_id(RoomId(invite.room_id))
            if room is None or room.away:
                raise NotFound("This server is not in that room")
            await self._issue(room, UserId(invite.sender), user, invite.signed)
            return
        content = {
            "membership": "invite",
            "third_party_invite": {"display_name": "", "signed": invite.signed},
        }
        ask = Ask(
            method="PUT",
            path=(*V1, "exchange_third_party_invite", invite.room_id),
            content={
                "type": MEMBER,
                "room_id": invite.room_id,
                "sender": invite.sender,
                "state_key": user,
                "content": content,
            },
            timeout=SECONDS,
            max_bytes=1 << 20,
        )
        await self._client.ask(domain_of(invite.sender), ask, dict[str, Any])

    async def _issue(self, room: Room, sender: UserId, user: UserId, signed: Mapping[str, Any]) -> None:
        token = signed.get("token")
        nid = room.state.get(("m.room.third_party_invite", token)) if isinstance(token, str) else None
        issued = await self._events.one(nid) if nid else None
        if issued is None:
            raise Forbidden("The room has no invite with this token")
        await self._validity.require(issued.event.content, signed)
        name = issued.event.content.get("display_name")
        content = {
            "membership": "invite",
            "third_party_invite": {"display_name": name if isinstance(name, str) else "", "signed": signed},
        }
        draft = EventDraft(MEMBER, user, sender, content)
        if self._elsewhere.is_remote(user):
            await self._elsewhere.invite(room, draft)
            return

        def plan(head: Head) -> Sequence[Send]:
            return [] if head.membership(user) in ("invite", "join") else [Send(draft)]

        await self._graph.append(room.name.nid, plan, system_passage("an address was found to be a user's"))
