"""Users of other servers come into rooms of ours, knock on them, and leave them: this server is resident, and asked.

spec: server-server-api/#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites, #restricted-rooms
(FED-18, FED-20, FED-23, FED-24, ACL-02)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from federation.handshakes.ports import Acls, Relay
from federation.handshakes.signing import with_signature
from federation.handshakes.templates import MEMBER, VOUCHER, template_of
from federation.ports import Checked, EventChecker, Partners
from homeserver.events import auth_rules
from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, next_depth, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.events.parse import MAX_PREV_EVENTS, EventFormatError, parse_event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import REJECTED, SOFT_FAILED
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import Identity
from homeserver.graph.write.receive import MissingEvents, Receiver
from homeserver.matrix.errors import (
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    NotFound,
    UnableToGrantJoin,
)
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId, domain_of
from homeserver.policy.gate import Gate
from homeserver.rooms.restricted import RestrictedJoins
from homeserver.runtime.clock import Clock

CREATE: Final[StateKey] = ("m.room.create", "")


class Asked(NamedTuple):
    """A membership that a user of another server wants in a room of ours."""

    origin: ServerName
    room_id: RoomId
    membership: str


class Residents:
    """Answers for rooms that users of ours are in. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        events: EventCache,
        receiver: Receiver,
        restricted: RestrictedJoins,
        gate: Gate,
        checker: EventChecker,
        acls: Acls,
        partners: Partners,
        relay: Relay,
        identity: Identity,
        clock: Clock,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._receiver = receiver
        self._restricted = restricted
        self._gate = gate
        self._checker = checker
        self._acls = acls
        self._partners = partners
        self._relay = relay
        self._identity = identity
        self._clock = clock

    async def make(self, asked: Asked, user_id: UserId, versions: Collection[str] | None) -> dict[str, Any]:
        """What the event of a membership is to rest on: the answer of make_join, make_knock, make_leave.

        `versions`: room versions that the other server knows; None: it need not say. Raises `NotFound` (`Forbidden` for
        leaving), `Forbidden`, `IncompatibleRoomVersion`, `UnableToAuthoriseJoin`, `UnableToGrantJoin`.
        """
        if domain_of(user_id) != asked.origin:
            raise Forbidden("The user is not one of your server")
        room = await self._room(asked)
        version = room.name.version
        if versions is not None and version.id not in versions:
            raise IncompatibleRoomVersion(
                f"Your server does not support version {version.id} of rooms", room_version=version.id
            )
        content: dict[str, Any] = {"membership": asked.membership}
        if asked.membership == "join":
            voucher = await self._restricted.authoriser(room, user_id)
            if voucher is not None:
                content[VOUCHER] = voucher
        event, state = await self._planned(room, EventDraft(MEMBER, user_id, user_id, content))
        try:
            auth_rules.check(event, state, version)
        except auth_rules.Rejected as no:
            raise Forbidden(f"{no.reason} (rule {no.rule})") from no
        return {"room_version": version.id, "event": template_of(event, self._identity.server_name)}

    async def accept(
        self, asked: Asked, event_id: EventId, pdu: Mapping[str, Any], servers: Collection[str] = ()
    ) -> tuple[Room, PersistedEvent]:
        """Take the signed event of a membership into the room, and pass it on to the other servers in it.

        `servers`: who is told beside them. Raises `NotFound`, `InvalidParam`, `Forbidden`, `UnableToAuthoriseJoin`,
        `UnableToGrantJoin`, `Unavailable`.
        """
        room = await self._room(asked)
        event = await self._vouched(room, asked, self._parsed(room, asked, event_id, pdu))
        checked = (await self._checker.check([event.pdu], room.name.version))[0]
        if not isinstance(checked, Checked):
            raise InvalidParam(f"The event is not accepted: {checked.reason}")
        if checked.event.pdu != event.pdu:  # redacted, because its hash is wrong
            raise InvalidParam("The event's hash does not match what it says")
        await self._gate.admit_from_elsewhere(event)
        await self._require_allowed(room, event)
        try:
            persisted = await self._receiver.receive(event)
        except MissingEvents:
            raise InvalidParam(
                "The event rests on events that are not here: ask for another template"
            ) from None
        if persisted.flags & (REJECTED | SOFT_FAILED):
            raise Forbidden("The room does not allow that")
        self._partners.done(asked.origin, "joined", asked.room_id)
        await self._relay.relay(persisted, servers)
        return await self._rooms.get(room.name.nid), persisted

    # --- inside --------------------------------------------------------------------------------------------------------

    async def _room(self, asked: Asked) -> Room:
        room = await self._rooms.by_id(asked.room_id)
        if room is None or room.away or not room.local_joined:
            if asked.membership == "leave":
                raise Forbidden("This server is not in that room")
            raise NotFound("This server is not in that room")
        await self._acls.require(room, asked.origin)
        return room

    async def _planned(self, room: Room, draft: EventDraft) -> tuple[Event, dict[StateKey, Event]]:
        """An event as it would come next in the room, and what of the room's state it rests on."""
        version = room.name.version
        wanted = auth_keys_for(draft.type, draft.state_key, draft.sender, draft.content, version)
        extremities = room.extremities[-MAX_PREV_EVENTS:]
        keys = {*wanted, CREATE, (MEMBER, str(draft.state_key))}
        nids = {key: room.state[key] for key in keys if key in room.state}
        loaded = await self._events.load([*nids.values(), *(ref.nid for ref in extremities)])
        state = {key: loaded[nid].event for key, nid in nids.items()}
        prev = [loaded[ref.nid].event for ref in extremities]
        event = build_event(
            draft,
            room_id=room.name.room_id,
            room_version=version,
            prev=[reference_to(each) for each in prev],
            auth=[reference_to(state[key]) for key in wanted if key in state],
            depth=next_depth([each.depth for each in prev], version),
            origin_server_ts=self._clock.now_ms(),
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )
        return event, state

    def _parsed(self, room: Room, asked: Asked, event_id: EventId, pdu: Mapping[str, Any]) -> Event:
        try:
            event = parse_event(pdu, room.name.version)
        except EventFormatError as error:
            raise InvalidParam(f"Not an event of room version {room.name.version.id}: {error}") from None
        if event.room_id != asked.room_id:
            raise InvalidParam("room_id: another room")
        if event.event_id != event_id:
            raise InvalidParam("eventId: not the ID of this event")
        if event.type != MEMBER or event.membership != asked.membership:
            raise InvalidParam(f"Not a membership of {asked.membership}")
        if domain_of(event.sender) != asked.origin:
            raise InvalidParam("sender: not a user of your server")
        if event.state_key != event.sender:
            raise InvalidParam("state_key: not the sender")
        return event

    async def _vouched(self, room: Room, asked: Asked, event: Event) -> Event:
        """A restricted join with the signature of this server, if one of ours vouches for it. Raises as
        `RestrictedJoins.authoriser`. (JOIN-02)
        """
        voucher = event.content.get(VOUCHER) if asked.membership == "join" else None
        if voucher is None or not room.name.version.restricted_join:
            return event
        if not isinstance(voucher, str) or domain_of(voucher) != self._identity.server_name:
            return event  # then the other server has signed it already, or it is not accepted
        needed = await self._restricted.authoriser(room, event.sender)
        if needed is not None and not await self._restricted.may_vouch(room, UserId(voucher)):
            raise UnableToGrantJoin(f"{voucher} may not let you in")
        return with_signature(event, self._identity)

    async def _require_allowed(self, room: Room, event: Event) -> None:
        """By the room as it is. Raises `Forbidden`: what would only be kept to be hidden is refused with words."""
        keys = [
            *auth_keys_for(event.type, event.state_key, event.sender, event.content, room.name.version),
            CREATE,
        ]
        loaded = await self._events.load([room.state[key] for key in keys if key in room.state])
        state = {each.event.key: each.event for each in loaded.values() if each.event.key is not None}
        try:
            auth_rules.check(event, state, room.name.version)
        except auth_rules.Rejected as no:
            raise Forbidden(f"{no.reason} (rule {no.rule})") from no
