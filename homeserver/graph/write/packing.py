"""Event entries as bytes: for the feed, and whole for the processes of a host.

The feed says what a process needs that reads the event itself from its table. A whole entry has the event, too, so that
who hears of it asks the database nothing; one that is yet to be written names events that are not numbered by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeserver.events.parse import event_from_storage
from homeserver.events.push_facts import Facts, plain
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.graph.entry import FOLLOWS, EventEntry, StateChange
from homeserver.graph.persisted_event import PersistedEvent, Replaced, SentBy
from homeserver.graph.refs import EventRef, StateRef
from homeserver.log.entries import Position
from homeserver.matrix.ids import EventId, RoomId

MAX_UNNUMBERED = 20_000
"""Events taken from other processes that others of theirs may stand on before they have heard of the number."""

_FlatRef = tuple[int, str, int]
_FlatChange = tuple[str, str, int, int, str, int, int | None, int | None, bool]
_FlatState = tuple[int, int, str]
"""Number, height; and the id of the state event it is after, if that has no number yet."""


class Feed(msgspec.Struct, array_like=True):
    """What another process needs beside the event itself."""

    extremities: list[_FlatRef]
    state_nid: int
    height: int
    changes: list[_FlatChange]
    redacts: int
    superseded: _FlatChange | None = None
    place: int = FOLLOWS
    opens_gap: bool = False


class _Whole(Feed, array_like=True, kw_only=True):
    """The same with the event."""

    pdu: bytes
    event_id: str
    room: tuple[int, str, str]
    """room_nid, room id, version."""
    sender_nid: int
    depth: int
    flags: int
    before: _FlatState
    after: _FlatState
    replaced: tuple[int, str, str, bytes] | None
    sent_by: tuple[int, str, str] | None
    facts: tuple[int, str | None, tuple[int, ...]]
    writing: tuple[list[_FlatRef], list[_FlatRef], list[_FlatRef], int | None, _FlatRef | None] | None
    """For who writes it: base, prev, auth, key_nid, replaces."""


def encode_feed(entry: EventEntry) -> bytes:
    """The payload of the feed."""
    return _encode(
        Feed(
            _flat_refs(entry.extremities),
            entry.room_state.nid,
            entry.room_state.height,
            [_flat_change(change) for change in entry.changes],
            entry.redacts.nid if entry.redacts else 0,
            _flat_change(entry.superseded) if entry.superseded else None,
            entry.place,
            entry.opens_gap,
        )
    )


def decode_feed(payload: bytes) -> Feed:
    """Also of a whole entry."""
    return _decode_feed(payload)


def entry_of(feed: Feed, persisted: PersistedEvent, redacts: PersistedEvent | None) -> EventEntry:
    """The entry as projections apply it."""
    return EventEntry(
        persisted=persisted,
        base=(),
        extremities=_refs(feed.extremities),
        room_state=StateRef(feed.height, nid=feed.state_nid),
        changes=tuple(_change(change) for change in feed.changes),
        redacts=redacts,
        superseded=_change(feed.superseded) if feed.superseded else None,
        place=feed.place,
        opens_gap=feed.opens_gap,
    )


def pack(entry: EventEntry, *, to_write: bool) -> bytes | None:
    """The whole entry; None for those that touch other events (redactions) or have states of their own."""
    persisted, event = entry.persisted, entry.persisted.event
    if (
        entry.redacts
        or persisted.redaction
        or entry.waits_for
        or entry.new_states
        or entry.original is not None
        or entry.was is not None
    ):
        return None
    if to_write and (not entry.base or entry.superseded or entry.place != FOLLOWS):
        return None
    if to_write and (entry.opens_gap or entry.fills_gap):
        return None
    replaced, sent_by, facts = persisted.replaced, persisted.sent_by, persisted.facts
    version = event.room_version
    return _encode(
        _Whole(
            _flat_refs(entry.extremities),
            entry.room_state.nid,
            entry.room_state.height,
            [_flat_change(change) for change in entry.changes],
            0,
            _flat_change(entry.superseded) if entry.superseded else None,
            entry.place,
            entry.opens_gap,
            pdu=event.pdu,
            event_id=event.event_id,
            room=(persisted.room_nid, event.room_id, version.id),
            sender_nid=persisted.sender_nid,
            depth=persisted.ref.depth,
            flags=persisted.flags,
            before=_flat_state(persisted.state_before),
            after=_flat_state(entry.room_state),
            replaced=(replaced.ref.nid, replaced.event_id, replaced.sender, replaced.content)
            if replaced
            else None,
            sent_by=(sent_by.user_nid, sent_by.device_id, sent_by.txn_id) if sent_by else None,
            facts=(facts.bits, facts.thread, facts.mentions),
            writing=(
                _flat_refs(entry.base),
                _flat_refs(entry.prev),
                _flat_refs(entry.auth),
                entry.key_nid,
                _flat_ref(entry.replaces) if entry.replaces else None,
            )
            if to_write
            else None,
        )
    )


class Unpacker:
    """Makes entries of bytes. Remembers the events taken to be written, for those that are built on them."""

    def __init__(self) -> None:
        self._unnumbered: dict[str, EventRef] = {}

    def entry(self, payload: bytes, position: Position) -> EventEntry:
        """As `pack` had it; `position`: where it stands, 0: nowhere yet.

        Raises `msgspec.MsgspecError`, `KeyError` (a room version that is not known here).
        """
        whole = _decode_whole(payload)
        room_nid, room_id, version = whole.room
        own = EventRef(EventId(whole.event_id), position, whole.depth)
        if whole.writing is not None:
            self._remember(own)
        replaced = None
        if whole.replaced is not None:
            nid, event_id, sender, content = whole.replaced
            replaced = Replaced(self._ref((nid, event_id, 0), own), event_id, sender, content)
        bits, thread, mentions = whole.facts
        persisted = PersistedEvent(
            event_from_storage(whole.pdu, EventId(whole.event_id), RoomId(room_id), ROOM_VERSIONS[version]),
            own,
            room_nid=room_nid,
            sender_nid=whole.sender_nid,
            state_before=self._state(whole.before, own),
            flags=whole.flags,
            replaced=replaced,
            sent_by=SentBy(*whole.sent_by) if whole.sent_by else None,
            facts=Facts(bits, EventId(thread) if thread else None, mentions)
            if thread or mentions
            else plain(bits),
        )
        base, prev, auth, key_nid, replaces = whole.writing or ((), (), (), None, None)
        return EventEntry(
            persisted=persisted,
            base=self._refs(base, own),
            extremities=self._refs(whole.extremities, own),
            room_state=self._state(whole.after, own),
            prev=self._refs(prev, own),
            auth=self._refs(auth, own),
            changes=tuple(self._change(change, own) for change in whole.changes),
            key_nid=key_nid,
            replaces=self._ref(replaces, own) if replaces else None,
            superseded=self._change(whole.superseded, own) if whole.superseded else None,
            place=whole.place,
            opens_gap=whole.opens_gap,
        )

    def _remember(self, ref: EventRef) -> None:
        if len(self._unnumbered) >= MAX_UNNUMBERED:
            del self._unnumbered[next(iter(self._unnumbered))]
        self._unnumbered[ref.event_id] = ref

    def _refs(self, flat: Sequence[_FlatRef], own: EventRef) -> tuple[EventRef, ...]:
        return tuple([self._ref(each, own) for each in flat])

    def _ref(self, flat: _FlatRef, own: EventRef) -> EventRef:
        nid, event_id, depth = flat
        if event_id == own.event_id:
            return own
        if nid:
            return EventRef(EventId(event_id), nid, depth)
        return self._unnumbered.get(event_id) or EventRef(EventId(event_id), 0, depth)

    def _state(self, flat: _FlatState, own: EventRef) -> StateRef:
        nid, height, event_id = flat
        if event_id:
            return StateRef(height, event=self._ref((0, event_id, 0), own))
        return StateRef(height, nid=nid)

    def _change(self, flat: _FlatChange, own: EventRef) -> StateChange:
        change = _change(flat)
        if change.ref is not None and (not change.ref.nid or change.ref.event_id == own.event_id):
            return msgspec.structs.replace(
                change, ref=self._ref((0, change.ref.event_id, change.ref.depth), own)
            )
        return change


_encode = msgspec.msgpack.Encoder().encode
_decode_feed = msgspec.msgpack.Decoder(Feed).decode
_decode_whole = msgspec.msgpack.Decoder(_Whole).decode


def _flat_ref(ref: EventRef) -> _FlatRef:
    return ref.nid, ref.event_id, ref.depth


def _flat_refs(refs: Sequence[EventRef]) -> list[_FlatRef]:
    return [(ref.nid, ref.event_id, ref.depth) for ref in refs]


def _refs(flat: Sequence[_FlatRef]) -> tuple[EventRef, ...]:
    return tuple([EventRef(EventId(event_id), nid, depth) for nid, event_id, depth in flat])


def _flat_state(state: StateRef) -> _FlatState:
    nid, event = state.nid, state.event
    return nid, state.height, event.event_id if not nid and event is not None else ""


def _flat_change(change: StateChange) -> _FlatChange:
    ref = change.ref
    nid, event_id, depth = (ref.nid, ref.event_id, ref.depth) if ref else (0, "", 0)
    return (
        *change.key,
        change.key_nid,
        nid,
        event_id,
        depth,
        change.user_nid,
        change.membership,
        change.local,
    )


def _change(flat: _FlatChange) -> StateChange:
    kind, state_key, key_nid, nid, event_id, depth, user_nid, membership, local = flat
    ref = EventRef(EventId(event_id), nid, depth) if nid or event_id else None
    return StateChange((kind, state_key), key_nid, ref, user_nid, membership, local)
