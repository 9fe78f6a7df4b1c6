"""Sending events: messages, state, redactions.

spec: client-server-api/#sending-events-to-a-room, #redactions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from homeserver.events.auth_rules.power import can_act
from homeserver.events.builder import EventDraft
from homeserver.events.event import StateKey
from homeserver.events.validation import check_client_event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.relations import Relation, has_annotated, read_relation
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import GraphWriter, Send
from homeserver.graph.write.facts import thread_of_related
from homeserver.log.entries import Position, TransactionId
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.transactions import Transactions
from homeserver.matrix.canonical_json import MAX_INTEGER
from homeserver.matrix.errors import (
    DuplicateAnnotation,
    Forbidden,
    InvalidParam,
    NotFound,
    ServerFault,
    Unknown,
)
from homeserver.matrix.ids import EventId, RoomId, UserId, is_user_id
from homeserver.policy.gate import Gate
from homeserver.policy.types import Kind, event_act
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.guests import GUEST_ACCESS, lets_guests_in
from homeserver.rooms.successors import Successors
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

Content = Mapping[str, Any]
REDACTION = "m.room.redaction"
MEMBER = "m.room.member"
VOUCHER = "join_authorised_via_users_server"


class SendingService:
    """Policy of sending; the graph does the rest."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        graph: GraphWriter,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        transactions: Transactions,
        gate: Gate,
        successors: Successors,
        elsewhere: Elsewhere,
    ) -> None:
        self._db = db
        self._graph = graph
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._transactions = transactions
        self._gate = gate
        self._successors = successors
        self._elsewhere = elsewhere
        self._turns = KeyedLocks()

    async def send(
        self,
        requester: Requester,
        room_id: RoomId,
        event_type: str,
        txn_id: str | None,
        content: Content,
        *,
        ts: int | None = None,
        sticky_ms: int | None = None,
    ) -> EventId:
        """Send a message event, once per transaction id (None: each time). Returns its id.

        `ts`: when it was said, Unix ms, as an application service knows it; of others it does not count.
        `sticky_ms`: for how long the event is sticky (MSC4354).

        Raises `Forbidden` (not joined, or not allowed), `BadJson` (content), `TooLarge`, what policy checks say.
        """
        if event_type == REDACTION:
            return await self.redact(
                requester,
                room_id,
                content.get("redacts"),
                txn_id,
                content,
                scope="send",
                sticky_ms=sticky_ms,
            )
        room = await self._rooms.known(room_id)
        check_client_event(event_type, None, content, room.name.version)
        draft = EventDraft(event_type, None, requester.user_id, content, sticky_ms=sticky_ms)
        relation = read_relation(content)
        send = Send(draft, origin_server_ts=_massaged(requester, ts))
        if relation is None or relation.rel_type != "m.annotation":
            return await self._send(requester, room, send, txn_id, relation)
        # One at a time: the same annotation twice at once finds itself.
        async with self._turns.of((requester.user_nid, event_type, relation)):
            return await self._send(requester, room, send, txn_id, relation)

    async def _send(
        self,
        requester: Requester,
        room: Room,
        send: Send,
        txn_id: str | None,
        relation: Relation | None,
    ) -> EventId:
        draft = send.draft
        scope = f"send/{room.name.room_id}/{draft.type}"
        related_thread: EventId | None = None
        if relation is not None:
            key = _transaction(requester, scope, txn_id)
            await self._check_relation(requester, room, draft.type, relation, key)
            related_thread = await thread_of_related(self._events, room.name.nid, relation)

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            return [send._replace(related_thread=related_thread)]

        return await self._once(requester, scope, txn_id, self._writer(requester, room, draft, plan))

    async def put_state(
        self,
        requester: Requester,
        room_id: RoomId,
        key: StateKey,
        content: Content,
        *,
        ts: int | None = None,
        txn_id: str | None = None,
    ) -> EventId:
        """Set one key of the room's state; the event already there if it says the same. `ts` and errors as of `send`.

        `txn_id`: written once under it. None: each time.
        """
        room = await self._rooms.known(room_id)
        check_client_event(key[0], key[1], content, room.name.version)
        if key[0] == MEMBER and VOUCHER in content:
            # Ours would sign whatever stands here, so it is not for clients to say who vouches for a join. They send it
            # with the rest of their membership when they change their name.
            content = {name: value for name, value in content.items() if name != VOUCHER}
        draft = EventDraft(key[0], key[1], requester.user_id, content)
        ts = _massaged(requester, ts)
        same: list[PersistedEvent] = []
        joins = False

        def plan(head: Head) -> Sequence[Send]:
            nonlocal joins
            require_joined_or_own(head, requester.user_id, key)
            joins = comes_in(head, key, content)
            if requester.is_guest and joins:
                require_guest_access(head)
            current = head.persisted(key)
            if current and current.event.sender == requester.user_id and current.event.content == content:
                same.append(current)
                return []
            return [Send(draft, origin_server_ts=ts)]

        passage = await self._gate.admit(requester, event_act(requester, room_id, key, content))
        if key[0] == MEMBER and content.get("membership") == "invite" and self._invites_elsewhere(key):
            return await self._elsewhere.invite(room, draft)

        async def write(txn: TransactionId | None) -> list[PersistedEvent]:
            return await self._graph.append(room.name.nid, plan, passage, txn=txn) or same

        event_id = await self._once(requester, f"state/{room_id}/{key[0]}/{key[1]}", txn_id, write)
        if joins:
            await self._successors.joined(requester, room)
        return event_id

    def _invites_elsewhere(self, key: StateKey) -> bool:
        return self._elsewhere.possible and is_user_id(key[1]) and self._elsewhere.is_remote(UserId(key[1]))

    async def redact(
        self,
        requester: Requester,
        room_id: RoomId,
        event_id: object,
        txn_id: str | None,
        content: Content,
        *,
        scope: str = "redact",
        sticky_ms: int | None = None,
    ) -> EventId:
        """Redact an event, once per transaction id (None: each time). Returns the redaction's id.

        Raises `NotFound` if there is no such event, `InvalidParam` if it is one of another room, `Forbidden` without the
        redact level for others' events, `UserSuspended` for others' events whatever the level (ACC-03).
        """
        room = await self._rooms.known(room_id)
        version = room.name.version
        target = await self._target(room, event_id)
        target_id = target.event.event_id
        reason = {key: value for key, value in content.items() if key != "redacts"}
        draft = EventDraft(REDACTION, None, requester.user_id, reason, redacts=target_id, sticky_ms=sticky_ms)
        check_client_event(REDACTION, None, draft.content, version)

        def plan(head: Head) -> Sequence[Send]:
            require_joined(head, requester.user_id)
            if target.event.sender != requester.user_id:
                require_redact_level(head, requester.user_id)
            return [Send(draft, redacts=None if target.redaction else target)]

        write = self._writer(requester, room, draft, plan, target.event.sender)
        return await self._once(requester, f"{scope}/{room_id}/{target_id}", txn_id, write)

    async def _check_relation(
        self,
        requester: Requester,
        room: Room,
        event_type: str,
        relation: Relation,
        txn: TransactionId | None,
    ) -> None:
        """Raises `DuplicateAnnotation` (REL-07), `Unknown` for a thread on what is in a relation itself (REL-10)."""
        if relation.rel_type == "m.annotation":
            if txn is not None and await self._transactions.is_known(txn):
                return  # a retry; it finds its first answer
            async with self._db.read() as tx:
                if await has_annotated(tx, room.name.nid, requester.user_nid, event_type, relation):
                    raise DuplicateAnnotation("You have annotated this event so already")
        elif relation.rel_type == "m.thread":
            root = await self._events.by_id(relation.parent_id)
            if root is not None and read_relation(root.event.content) is not None:
                raise Unknown(
                    "m.relates_to.event_id: a thread cannot begin at an event that relates to another"
                )

    async def _target(self, room: Room, event_id: object) -> PersistedEvent:
        found = await self._events.by_id(EventId(event_id)) if isinstance(event_id, str) else None
        if found is None or found.hidden:
            raise NotFound("There is no such event in this room")
        if found.room_nid != room.name.nid:
            raise InvalidParam("eventId: an event of another room cannot be redacted here")
        return found

    def _writer(
        self,
        requester: Requester,
        room: Room,
        draft: EventDraft,
        plan: Callable[[Head], Sequence[Send]],
        target: UserId | None = None,
    ) -> Callable[[TransactionId | None], Awaitable[list[PersistedEvent]]]:
        """Writes the event when it has passed the gate; what no check concerns takes no step more than without a gate.

        `target`: the author of what is redacted.
        """
        kind = Kind.MESSAGE if draft.type != REDACTION else Kind.REDACTION

        def write(txn: TransactionId | None) -> Awaitable[list[PersistedEvent]]:
            passage = self._gate.pass_at_once(requester, kind, draft.type)
            if passage is None:
                return checked(txn)
            return self._graph.append(room.name.nid, plan, passage, txn=txn)

        async def checked(txn: TransactionId | None) -> list[PersistedEvent]:
            act = event_act(requester, room.name.room_id, (draft.type, None), draft.content, target)
            passage = await self._gate.admit(requester, act)
            return await self._graph.append(room.name.nid, plan, passage, txn=txn)

        return write

    async def _once(
        self,
        requester: Requester,
        scope: str,
        txn_id: str | None,
        write: Callable[[TransactionId | None], Awaitable[list[PersistedEvent]]],
    ) -> EventId:
        key = _transaction(requester, scope, txn_id)
        if key is None:
            return (await write(None))[-1].event.event_id
        written: list[PersistedEvent] = []

        async def work() -> Position:
            written.extend(await write(key))
            return written[-1].nid

        position = await self._transactions.run(key, work)
        persisted = written[-1] if written else await self._events.one(position)
        if persisted is None:
            raise ServerFault("The event of this transaction is gone")
        return persisted.event.event_id


def _massaged(requester: Requester, ts: int | None) -> int | None:
    """When an event is to have been said. spec: application-service-api/#timestamp-massaging (CHECKLIST AS-11)

    Raises `InvalidParam` for what is no moment that an event can have.
    """
    if ts is None or requester.appservice_id is None:
        return None
    if not 0 <= ts <= MAX_INTEGER:
        raise InvalidParam("ts: milliseconds since 1970 are expected")
    return ts


def _transaction(requester: Requester, scope: str, txn_id: str | None) -> TransactionId | None:
    if txn_id is None:
        return None
    return TransactionId(requester.user_nid, requester.device_id or "", scope, txn_id)


def require_joined(head: Head, user_id: UserId) -> None:
    """Raises `Forbidden` unless the user is in the room."""
    if not head.is_joined(user_id):
        raise Forbidden("You are not in this room")


def require_joined_or_own(head: Head, user_id: UserId, key: StateKey) -> None:
    """As `require_joined`; one's own membership may be set from outside (auth rules decide)."""
    if key != ("m.room.member", user_id):
        require_joined(head, user_id)


def comes_in(head: Head, key: StateKey, content: Content) -> bool:
    """Whether this state lets a user into the room who is not in it."""
    return key[0] == MEMBER and content.get("membership") == "join" and not head.is_joined(UserId(key[1]))


def require_guest_access(head: Head) -> None:
    """Raises `Forbidden` unless guests may join. spec: client-server-api/#guest-access: absent means forbidden (GUEST-02)"""
    if not lets_guests_in(head.event(GUEST_ACCESS)):
        raise Forbidden("Guests may not join this room")


def require_redact_level(head: Head, user_id: UserId) -> None:
    """Raises `Forbidden` for a user below the room's redact level. spec: rooms/v3/#handling-redactions (RED-02)"""
    state = head.state([("m.room.create", ""), ("m.room.power_levels", "")])
    if not can_act(state, user_id, "redact", head.name.version):
        raise Forbidden("You may redact only your own messages here")
