"""An event as it is read: the event, the server's notes on it, and its client form for a reader.

spec: client-server-api/#room-event-format (FILT-06, FILT-07)
"""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.events.client_format import client_event_bytes, room_member
from homeserver.events.event import Event
from homeserver.events.push_facts import BRANCHED, NO_FACTS, Facts
from homeserver.events.redaction import redact_event
from homeserver.events.sticky import REMAINING
from homeserver.graph.refs import HIDDEN, MEMBERSHIP_NAMES, STATELESS, EventRef, StateRef
from homeserver.matrix import json

LATER: Final = "\x1flater"
"""In place of a device: the event was sent at its time, and its transaction is its delay id (MSC4140)."""
DELAY_ID: Final = b"org.matrix.msc4140.delay_id"


class SentBy(NamedTuple):
    """The client transaction that sent an event: shown to that device alone; a delay id to each of the sender's."""

    user_nid: int
    device_id: str
    txn_id: str


class Replaced(NamedTuple):
    """The state event that another one replaced."""

    ref: EventRef
    event_id: str
    sender: str
    content: bytes


class Reader(NamedTuple):
    """For whom an event is rendered."""

    user_nid: int
    device_id: str | None


class PersistedEvent:
    """One per event and process, shared by the cache and the recent log; changes only by becoming redacted."""

    __slots__ = (
        "__weakref__",
        "_client",
        "_member",
        "_unsigned",
        "event",
        "facts",
        "flags",
        "redaction",
        "ref",
        "replaced",
        "room_nid",
        "sender_nid",
        "sent_by",
        "size",
        "state_before",
        "sticky_until",
    )

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        event: Event,
        ref: EventRef,
        *,
        room_nid: int,
        sender_nid: int,
        state_before: StateRef,
        flags: int = 0,
        replaced: Replaced | None = None,
        redaction: PersistedEvent | None = None,
        sent_by: SentBy | None = None,
        facts: Facts = NO_FACTS,
    ) -> None:
        self.event = event
        self.ref = ref
        self.room_nid = room_nid
        self.sender_nid = sender_nid
        self.state_before = state_before
        self.flags = flags
        self.replaced = replaced
        self.redaction = redaction
        self.sent_by = sent_by
        self.facts = facts
        self.sticky_until = 0
        """Unix ms until which it is sticky (MSC4354); 0: it is not. `StickyEvents` says it."""
        self.size = 3 * len(event.pdu) + (len(replaced.content) if replaced is not None else 0) + 1500
        """Bytes this takes in memory, roughly; the same for as long as it lives, also when a redaction has made it smaller."""
        self._client: bytes | None = None
        self._member: bytes | None = None
        self._unsigned: tuple[int | None, bool, bytes] | None = None

    @property
    def nid(self) -> int:
        """Position in the log; 0 until written, negative if backfilled."""
        return self.ref.nid

    @property
    def state_after_nid(self) -> int:
        """The state with this event in it."""
        # Soft failed events are part of the state after them: resolution decides what becomes of them.
        accepted_state = self.event.state_key is not None and not self.flags & STATELESS
        return self.ref.nid if accepted_state else self.state_before.nid

    @property
    def hidden(self) -> bool:
        """Rejected, soft failed or an outlier: never shown to clients."""
        return bool(self.flags & HIDDEN)

    @property
    def branched(self) -> bool:
        """See `push_facts.BRANCHED`."""
        return bool(self.facts.bits & BRANCHED)

    @property
    def unclosed(self) -> bytes:
        """Client form without `room_id`, `unsigned` and its last brace."""
        if self._client is None:
            self._client = client_event_bytes(self.event)[:-1]
        return self._client

    @property
    def joined_member(self) -> bytes:
        """Of an `m.room.member`: its user and profile, as a member of the object `joined` (op:getJoinedMembersByRoom)."""
        if self._member is None:
            content = self.event.content
            fields = (("display_name", "displayname"), ("avatar_url", "avatar_url"))
            # What is not set is null rather than left out: clients that ask for one of the two names find it.
            profile = {
                name: content[key] if isinstance(content.get(key), str) else None for name, key in fields
            }
            self._member = b"%b:%b" % (json.dumps(self.event.state_key), json.dumps(profile))
        return self._member

    def become(self, event: Event) -> None:
        """Before it is written, or seen: it was signed again, to follow other events."""
        self.event = event
        self.ref.event_id, self.ref.depth = event.event_id, event.depth
        self._client = self._member = self._unsigned = None

    def redact(self, redaction: PersistedEvent) -> None:
        """The redaction takes effect: from now on only the stripped form is served. spec: client-server-api/#redactions"""
        self.event = redact_event(self.event)
        self.redaction = redaction
        self.sticky_until = 0
        self._client = self._member = self._unsigned = None

    def redact_replaced(self, before: PersistedEvent) -> None:
        """What this replaced is redacted: `prev_content` tells no more than the stripped form."""
        if self.replaced is not None:
            self.replaced = self.replaced._replace(content=before.event.content_json)
            self._unsigned = None

    def render(  # noqa: PLR0917  # called for each event that is shown: names cost
        self,
        reader: Reader,
        membership: int | None,
        now_ms: int,
        previous: bool = False,
        extra: bytes = b"",
        members: bytes = b"",
    ) -> bytes:
        """Client form for a reader, without `room_id`.

        `membership`: the reader's at the event (JOIN … BAN; 0 counts as leave; None: it is not told). `previous`: the reader
        may see the state event that this one replaced. `extra`: further members of `unsigned`, `members`: of the event, each
        with a leading comma.
        """
        if self.sticky_until > now_ms:
            extra += b",%b:%d" % (REMAINING, self.sticky_until - now_ms)
        sent_by = self.sent_by
        if sent_by is not None and sent_by[0] == reader[0]:
            if sent_by[1] == reader[1]:
                extra = b',"transaction_id":%b%b' % (json.dumps(sent_by.txn_id), extra)
            elif sent_by[1] == LATER:
                extra = b',"%b":%b%b' % (DELAY_ID, json.dumps(sent_by.txn_id), extra)
        unsigned = self._unsigned
        if unsigned is None or unsigned[0] != membership or unsigned[1] is not previous:
            unsigned = self._unsigned = (membership, previous, self.after_age(membership, previous=previous))
        age = now_ms - self.event.origin_server_ts
        if age < 0:  # noqa: PLR1730  # likewise
            age = 0
        return b'%b,"unsigned":{"age":%d%b%b}%b}' % (
            self._client or self.unclosed,
            age,
            unsigned[2],
            extra,
            members,
        )

    def after_age(self, membership: int | None, *, previous: bool) -> bytes:
        """What of `unsigned` is the same from one moment to the next, each with a leading comma."""
        parts: list[bytes] = []
        if membership is not None:
            parts.append(b',"membership":"%b"' % MEMBERSHIP_NAMES.get(membership, "leave").encode())
        if self.replaced is not None:
            parts.append(b',"replaces_state":' + json.dumps(self.replaced.event_id))
            if previous:  # spec: data client_event_without_room_id.yaml `prev_content` (FILT-06)
                sender = json.dumps(self.replaced.sender)
                parts.append(b',"prev_content":%b,"prev_sender":%b' % (self.replaced.content, sender))
        if self.redaction is not None:
            because = self.redaction
            redacted_by = json.dumps(because.event.event_id)
            parts.append(
                b',"redacted_by":%b,"redacted_because":%b%b}'
                % (redacted_by, because.unclosed, room_member(because.event.room_id))
            )
        return b"".join(parts)
