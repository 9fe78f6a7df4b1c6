"""Inviting somebody by an address: as the user whose it is, or by leaving an invite for it with an identity server.

spec: client-server-api/#third-party-invites (CHECKLIST 3PI-01)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from homeserver.events.auth_rules.power import can_act
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden, InvalidParam, MatrixError, MissingParam
from homeserver.matrix.ids import RoomId
from homeserver.rooms.membership import MembershipService
from homeserver.rooms.ports import AddressBook
from homeserver.rooms.sending import SendingService
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.rooms")

THIRD_PARTY_INVITE: Final = "m.room.third_party_invite"
MAX_ADDRESS: Final = 500
"""Characters."""
MAX_INVITES: Final = 20
"""By address, with a new room."""
_TOLD: Final[Mapping[StateKey, tuple[str, str]]] = {
    ("m.room.name", ""): ("name", "room_name"),
    ("m.room.canonical_alias", ""): ("alias", "room_alias"),
    ("m.room.avatar", ""): ("url", "room_avatar_url"),
    ("m.room.join_rules", ""): ("join_rule", "room_join_rules"),
    ("m.room.create", ""): ("type", "room_type"),
}
"""What of the room an identity server is told, for its letter: state -> key of its content, and its name there."""


class AddressInvite(msgspec.Struct, frozen=True):
    """Whom a client invites, and who may know them."""

    id_server: str
    id_access_token: str
    medium: str
    address: str


class InvitesByAddress:
    """Invites by address. Keeps nothing in memory."""

    def __init__(
        self,
        rooms: Rooms,
        events: EventCache,
        membership: MembershipService,
        sending: SendingService,
        book: AddressBook,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._membership = membership
        self._sending = sending
        self._book = book

    def check(self, wishes: Sequence[Mapping[str, Any]]) -> list[AddressInvite]:
        """Those of a room that is to be made. Raises `InvalidParam`, `MissingParam`, `ServerNotTrusted`."""
        if len(wishes) > MAX_INVITES:
            raise InvalidParam(f"invite_3pid: more than {MAX_INVITES}")
        return [self.read(wish, f"invite_3pid[{number}].") for number, wish in enumerate(wishes)]

    def read(self, wish: Mapping[str, Any], where: str = "") -> AddressInvite:
        """Raises as `check`."""
        found: dict[str, str] = {}
        for name in AddressInvite.__struct_fields__:
            value = wish.get(name)
            if value is None:
                raise MissingParam(f"Missing required key: {where}{name}")
            if not isinstance(value, str) or not 0 < len(value) <= MAX_ADDRESS:
                raise InvalidParam(f"{where}{name}: 1 to {MAX_ADDRESS} characters")
            found[name] = value
        invite = AddressInvite(**found)
        self._book.trusted(invite.id_server)
        return invite

    async def invite(
        self, requester: Requester, room_id: RoomId, wish: AddressInvite, reason: str | None = None
    ) -> None:
        """Raises `Forbidden`, `ServerNotTrusted`, what the identity server says; as `MembershipService.invite`."""
        room = await self._rooms.known(room_id)
        state = await self._state(room)
        # An identity server writes to people: it is not asked for who may not invite.
        if room.membership(requester.user_id) != JOIN:
            raise Forbidden("You are not in this room")
        if not can_act(
            {key: each.event for key, each in state.items()}, requester.user_id, "invite", room.name.version
        ):
            raise Forbidden("You may not invite anybody here")
        host = self._book.trusted(wish.id_server)
        address = wish.address.strip().lower() if wish.medium == "email" else wish.address.strip()
        found = await self._book.find(host, wish.id_access_token, wish.medium, address)
        if found is not None:
            await self._membership.invite(requester, room_id, found, reason)
            return
        invite = {
            "medium": wish.medium,
            "address": address,
            "room_id": room_id,
            "sender": requester.user_id,
            **_described(state),
        }
        kept = await self._book.keep_invite(host, wish.id_access_token, invite)
        await self._sending.put_state(requester, room_id, (THIRD_PARTY_INVITE, kept.token), kept.content)

    async def invite_all(
        self, requester: Requester, room_id: RoomId, wishes: Sequence[AddressInvite]
    ) -> None:
        """Into a room that was just made: who cannot be invited is not, and there is a line in the log."""
        for wish in wishes:
            try:
                await self.invite(requester, room_id, wish)
            except MatrixError as refusal:
                _log.warning("rooms.invite_refused", room=room_id, why=refusal.error)

    async def _state(self, room: Room) -> Mapping[StateKey, Any]:
        keys = [*_TOLD, ("m.room.power_levels", "")]
        nids = {key: room.state[key] for key in keys if key in room.state}
        loaded = await self._events.load(nids.values())
        return {key: loaded[nid] for key, nid in nids.items() if nid in loaded}


def _described(state: Mapping[StateKey, Any]) -> dict[str, str]:
    """What is told of the room."""
    found: dict[str, str] = {}
    for key, (member, name) in _TOLD.items():
        value = state[key].event.content.get(member) if key in state else None
        if isinstance(value, str) and value:
            found[name] = value[:MAX_ADDRESS]
    return found
