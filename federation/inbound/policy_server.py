"""Rooms that have a policy server: what is sent from here is shown to it first, what comes without its signature is soft failed.

Its key stands in the state of the room; key servers are not asked. What comes without a valid signature is shown to it once.
spec: server-server-api/#policy-servers, client-server-api/#policy-servers (MOD-06 to MOD-08)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from federation.ports import Ask, Client, RemoteError, RemoteFault
from homeserver.events.event import Event, StateKey
from homeserver.events.hashing import encode_for, signed_bytes
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import DUMMY, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix import base64
from homeserver.matrix.errors import Forbidden, InvalidSignature, LimitExceeded, MatrixError, Unavailable
from homeserver.matrix.ids import EventId, ServerName, domain_of, is_server_name
from homeserver.matrix.signing import verify_bytes
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict

_log = structlog.get_logger("atrium.federation.inbound")

POLICY: Final[StateKey] = ("m.room.policy", "")
KEY_ID: Final = "ed25519:policy_server"
TIMEOUT: Final = 10.0
MAX_ANSWER: Final = 64 << 10
AT_ONCE: Final = 8
"""Events of one batch that are shown to it at once."""
MAX_REMEMBERED: Final = 2_000
"""Rooms of which it is remembered who their policy server is, and events that it has refused."""
KINDS: Final = frozenset({Kind.MESSAGE, Kind.REDACTION, Kind.STATE, Kind.INVITE, Kind.JOIN, Kind.MEMBERSHIP})


class PolicyServer(NamedTuple):
    """Who has to sign the events of a room."""

    name: ServerName
    public_key: bytes
    """Ed25519, 32 bytes."""


class PolicyServers:
    """Knows the policy servers of rooms; asks them. Owns what is remembered of rooms."""

    def __init__(self, client: Client, rooms: Rooms, events: EventCache, server_name: ServerName) -> None:
        self._client = client
        self._rooms = rooms
        self._events = events
        self._server_name = server_name
        self._known: dict[int, tuple[int, PolicyServer | None]] = {}
        """room_nid -> (the state it was found in, who)."""
        self._asked: set[EventId] = set()
        """Events that were refused a signature lately."""

    @property
    def check(self) -> Check:
        """Asked of events that come from elsewhere: step 7. spec: #checks-performed-on-receipt-of-a-pdu (FED-10, MOD-08)"""
        return Check(
            name="policy_server",
            kinds=KINDS,
            decide=self._decide,
            when_failing="refuse",
            elsewhere=True,
            here=False,
            spares=self._spares,
        )

    def concerns(self, room: Room) -> bool:
        """See `Countersigner` of the graph: whether the room names a policy server at all."""
        return POLICY in room.state

    async def sign(self, room: Room, event: Event) -> Event:
        """See `Countersigner` of the graph. (MOD-07)"""
        server = await self.of(room)
        # What joins branches says nothing, and is written while events are received: they wait for no other server.
        if server is None or _is_exempt(event) or event.type == DUMMY:
            return event
        try:
            return await self._ask(server, event, long_retry=False)
        except RemoteError as error:
            raise _refusal(error) from error
        except RemoteFault as fault:
            raise Unavailable("The policy server of this room cannot be reached") from fault

    async def complete(self, room: Room, events: Sequence[Event]) -> list[Event]:
        """Events that have come, with its signature as far as it gives one. (MOD-08)"""
        server = await self.of(room) if events else None
        if server is None:
            return list(events)
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(event: Event) -> Event:
            if _is_exempt(event) or _is_signed(event, server):
                return event
            async with turns:
                return await self._shown(server, event)

        return list(await asyncio.gather(*(one(event) for event in events)))

    async def of(self, room: Room) -> PolicyServer | None:
        """The policy server of a room as its state is now; None: it has none. (MOD-06)"""
        nid = room.state.get(POLICY)
        if nid is None:
            return None
        state, known = self._known.get(room.name.nid, (0, None))
        if state == room.room_state.nid:
            return known
        persisted = await self._events.one(nid)
        found = _read(persisted.event.content) if persisted is not None else None
        if found is not None and not _is_joined(room, found.name):
            found = None
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[room.name.nid] = (room.room_state.nid, found)
        return found

    def _spares(self, act: Act) -> bool:
        room = self._rooms.cached_by_id(act.room_id) if act.room_id is not None else None
        return room is not None and not self.concerns(room)

    async def _decide(self, act: Act) -> Verdict:
        event = act.event
        room = await self._rooms.by_id(act.room_id) if act.room_id is not None else None
        if event is None or room is None or not self.concerns(room) or _is_exempt(event):
            return ALLOW
        server = await self.of(room)
        if server is None or _is_signed(event, server):
            return ALLOW
        if event.event_id not in self._asked and await self._shown(server, event) is not event:
            return ALLOW  # it has come by another way than a transaction
        return Refuse(Forbidden("The policy server of the room has not signed it"))

    async def _shown(self, server: PolicyServer, event: Event) -> Event:
        """The event with the signature, or itself: then it is not shown again soon."""
        try:
            return await self._ask(server, event, long_retry=True)
        except RemoteFault as fault:
            if fault.is_news:
                _log.info("inbound.not_countersigned", event_id=event.event_id, problem=fault.problem[:200])
        if len(self._asked) >= MAX_REMEMBERED:
            self._asked.clear()
        self._asked.add(event.event_id)
        return event

    async def _ask(self, server: PolicyServer, event: Event, *, long_retry: bool) -> Event:
        """The event with its signature. Raises `RemoteFault`; without a valid signature in the answer too."""
        if server.name == self._server_name:
            raise RemoteFault(server.name, "this server is no policy server")
        ask = Ask(
            method="POST",
            path=("_matrix", "policy", "v1", "sign"),
            content=event.fields,
            timeout=TIMEOUT - 1,
            max_bytes=MAX_ANSWER,
            long_retry=long_retry,
        )
        answer = await self._client.ask(server.name, ask, dict[str, Any])
        given = answer.get(server.name)
        signature = given.get(KEY_ID) if isinstance(given, Mapping) else None
        signed = _with_signature(event, server.name, signature) if isinstance(signature, str) else event
        if not _is_signed(signed, server):
            raise RemoteFault(server.name, "no valid signature in the answer")
        return signed


def _read(content: Mapping[str, Any]) -> PolicyServer | None:
    """None for what lacks a field, or has another form."""
    via, keys = content.get("via"), content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, Mapping) else None
    if not isinstance(via, str) or not is_server_name(via) or not isinstance(key, str):
        return None
    try:
        public_key = base64.decode(key)
    except ValueError:
        return None
    return PolicyServer(ServerName(via), public_key) if len(public_key) == 32 else None


def _is_joined(room: Room, server_name: ServerName) -> bool:
    return any(m.membership == JOIN and domain_of(user) == server_name for user, m in room.members.items())


def _is_exempt(event: Event) -> bool:
    """spec: the state event that names the policy server is never shown to it."""
    return event.key == POLICY


def _is_signed(event: Event, server: PolicyServer) -> bool:
    signatures = event.fields.get("signatures")
    given = signatures.get(server.name) if isinstance(signatures, Mapping) else None
    signature = given.get(KEY_ID) if isinstance(given, Mapping) else None
    if not isinstance(signature, str):
        return False
    try:
        verify_bytes(signed_bytes(event.fields, event.room_version), signature, KEY_ID, server.public_key)
    except InvalidSignature:
        return False
    return True


def _with_signature(event: Event, server_name: ServerName, signature: str) -> Event:
    """The event with one signature more; those that it has stay, also of the same server."""
    signatures = event.fields["signatures"]
    fields = {
        **event.fields,
        "signatures": {**signatures, server_name: {**signatures.get(server_name, {}), KEY_ID: signature}},
    }
    return Event(
        pdu=encode_for(event.room_version)(fields),
        event_id=event.event_id,
        room_id=event.room_id,
        room_version=event.room_version,
        fields=fields,
    )


def _refusal(error: RemoteError) -> MatrixError:
    """What the client is told: its own error (MOD-07)."""
    if error.status == 429:
        return LimitExceeded(2_000)
    if error.status >= 500:
        return Unavailable("The policy server of this room does not answer")
    return Forbidden(error.error[:500] or "The policy server of this room refuses it", status=error.status)
