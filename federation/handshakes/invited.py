"""Users of ours are invited by other servers, and invites and knocks are taken back or denied there.

spec: server-server-api/#inviting-to-a-room, op:sendInviteV2 (FED-25, MOD-04, JOIN-04)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import structlog

from federation.handshakes.ports import Acls
from federation.handshakes.shown import ShownState, UnfitState
from federation.handshakes.signing import with_signature
from federation.handshakes.templates import MEMBER
from federation.ports import Checked, EventChecker, Partners
from homeserver.events.auth_rules.power import CREATE, POWER_LEVELS, creators_of
from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.event import Event
from homeserver.events.parse import EventFormatError, parse_event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE, KNOCK
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import Identity
from homeserver.graph.write.beside import MembershipsBeside, NotAway, Unfit
from homeserver.matrix.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, LimitExceeded
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId, domain_of
from homeserver.policy.gate import Gate
from homeserver.policy.passages import system_passage
from homeserver.rooms.memberships import Memberships
from homeserver.rooms.ports import Accounts

_log = structlog.get_logger("atrium.federation.handshakes")

MAX_PENDING: Final = 500
"""Invites that a user has not answered; further ones from other servers are refused."""
RETRY_MS: Final = 60_000


class Invitation(NamedTuple):
    """What another server sends to invite somebody."""

    origin: ServerName
    room_id: RoomId
    event_id: EventId
    version: str
    pdu: Mapping[str, Any]
    room_state: Sequence[Any]


class Invited:
    """Takes invites to users of ours, and what ends them. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        memberships: Memberships,
        beside: MembershipsBeside,
        accounts: Accounts,
        gate: Gate,
        checker: EventChecker,
        acls: Acls,
        partners: Partners,
        identity: Identity,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._memberships = memberships
        self._beside = beside
        self._accounts = accounts
        self._gate = gate
        self._checker = checker
        self._shown = ShownState(checker)
        self._acls = acls
        self._partners = partners
        self._identity = identity

    async def invite(self, invitation: Invitation) -> Event:
        """Keep an invite for its user, and sign it. Raises `IncompatibleRoomVersion`, `InvalidParam`, `Forbidden`,
        `InviteBlocked`, `LimitExceeded`, `Unavailable`.
        """
        version = ROOM_VERSIONS.get(invitation.version)
        if version is None:
            raise IncompatibleRoomVersion(
                f"This server does not support version {invitation.version[:32]} of rooms",
                room_version=invitation.version,
            )
        event = await self._checked(self._parsed(invitation, version))
        origin, room_id = invitation.origin, invitation.room_id
        if not await self._partners.may_share(origin, room_id, presumed=origin):
            self._partners.refused(origin, "invite", room_id)
            raise Forbidden("This server does not share that room with yours")
        room = await self._rooms.by_id(room_id)
        if room is not None and not room.away:  # of others nobody here knows the list (ACL-02)
            await self._acls.require(room, origin)
        target = UserId(str(event.state_key))
        if not await self._accounts.is_local_account(target):
            raise Forbidden(f"There is no user {target}")
        passage = await self._gate.admit_from_elsewhere(event)
        await self._require_few(target)
        try:
            shown = await self._shown.stripped(invitation.room_state, invitation.room_id, version, drop=False)
        except UnfitState as unfit:
            raise InvalidParam(str(unfit)) from None
        signed = with_signature(event, self._identity)
        try:
            await self._beside.put(signed, passage, shown, servers=[invitation.origin])
        except NotAway:
            pass  # it will come with the room's other events
        except Unfit as unfit:
            raise InvalidParam(str(unfit)) from unfit
        self._partners.done(origin, "invited", room_id)
        return signed

    async def ended(self, room: Room, event: Event) -> bool:
        """Whether an event of a room that this server is not in, signatures checked, ends an invite or a knock of one of ours; then
        it is the user's membership from now on. Otherwise it is nothing to us.

        An invite is taken back by users of the server that has sent it, and by who has the power to, as far as what that server
        told of the room says. A knock is denied by who is in the room: they name it as what the denial rests on.
        """
        if event.key is None or event.type != MEMBER or event.membership not in ("leave", "ban"):
            return False
        member = room.members.get(UserId(event.key[1]))
        if not room.away or member is None or not member.local or member.membership not in (INVITE, KNOCK):
            return False
        pending = await self._events.one(member.event_nid)
        if pending is None:
            return False
        if member.membership == KNOCK:
            may = pending.event.event_id in event.auth_event_ids
        else:
            may = await self._may_take_back(event, pending)
        if not may:
            _log.info("handshakes.end_not_taken", room=room.name.room_id, why="not for its sender to say")
            return False
        try:
            await self._beside.put(event, system_passage("another server ended an invite or a knock"))
        except (NotAway, Unfit) as no:
            _log.info("handshakes.end_not_taken", room=room.name.room_id, why=str(no))
            return False
        return True

    async def _may_take_back(self, event: Event, invite: PersistedEvent) -> bool:
        """Whether a leave or ban of ours is by somebody who may end their invite. What the room's state is nobody here knows.

        spec: rooms/v12/#authorisation-rules (5.5, 5.6), judged by the stripped state that came with the invite
        """
        if event.sender == event.state_key or domain_of(event.sender) == domain_of(invite.event.sender):
            return True
        told = {(each.type, each.state_key): each for each in await self._beside.told(invite.nid)}
        create, power = told.get(CREATE), told.get(POWER_LEVELS)
        if create is None:
            return False
        version = event.room_version
        levels = PowerLevels(
            power.content if power is not None else None, version, creators_of(create, version)
        )
        action = "ban" if event.membership == "ban" else "kick"
        with suppress(BadLevel):
            level = levels.user_level(event.sender)
            return level >= levels.named(action) and level > levels.user_level(str(event.state_key))
        return False

    # --- inside --------------------------------------------------------------------------------------------------------

    def _parsed(self, invitation: Invitation, version: RoomVersion) -> Event:
        try:
            event = parse_event(invitation.pdu, version)
        except EventFormatError as error:
            raise InvalidParam(f"event: not one of room version {version.id}: {error}") from None
        if event.room_id != invitation.room_id:
            raise InvalidParam("event.room_id: another room")
        if event.event_id != invitation.event_id:
            raise InvalidParam("eventId: not the ID of this event")
        if event.type != MEMBER or event.membership != "invite":
            raise InvalidParam("event: not an invite")
        if domain_of(event.sender) != invitation.origin:
            raise InvalidParam("event.sender: not a user of your server")
        if domain_of(str(event.state_key)) != self._identity.server_name:
            raise InvalidParam("event.state_key: not a user of this server")
        return event

    async def _checked(self, event: Event) -> Event:
        checked = (await self._checker.check([event.pdu], event.room_version))[0]
        if not isinstance(checked, Checked):
            raise InvalidParam(f"event: {checked.reason}")
        if checked.event.pdu != event.pdu:
            raise InvalidParam("event: its hash does not match what it says")
        return checked.event

    async def _require_few(self, target: UserId) -> None:
        user = await self._memberships.of(await self._interning.user_nid(target))
        if len(user.with_membership(INVITE)) >= MAX_PENDING:
            raise LimitExceeded(RETRY_MS, f"{target} has too many invites to answer")
