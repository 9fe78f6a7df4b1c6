"""An event as a log entry: one event that becomes part of a room, and what it does to the room."""

from __future__ import annotations

import msgspec
from typing_extensions import override

from homeserver.events.event import StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import EventRef, StateRef
from homeserver.graph.resolved import NewState
from homeserver.log.entries import ENTRY_BYTES, Entry
from homeserver.matrix.ids import EventId

FOLLOWS, BESIDE, ADOPTS = 0, 1, 2
"""How an event stands to the room's head: it follows it; it is the membership of one of ours in a room that this server is not
in, and leaves the head as it is; with it the room is taken as another server has it, whatever stood here before.
"""


class StateChange(msgspec.Struct, frozen=True):
    """One key of the room's current state takes another value; `ref` None: the key is no longer set."""

    key: StateKey
    key_nid: int
    ref: EventRef | None
    user_nid: int | None = None
    """Of m.room.member: whose membership it is."""
    membership: int | None = None
    """Of m.room.member: JOIN … BAN; None if the content is no membership."""
    local: bool = False
    """Of m.room.member: whether the user is one of ours."""


def touches_state(entry: EventEntry) -> bool:
    """Whether an event may matter to who keeps something of rooms' state: of a plain message it is false.

    True for state events, whether or not they become current state, and for redactions that take effect.
    """
    return entry.persisted.event.key is not None or bool(entry.changes) or entry.redacts is not None


class EventEntry(Entry, frozen=True):
    """What the sink writes and what projections apply."""

    persisted: PersistedEvent
    base: tuple[EventRef, ...]
    """The room's extremities this was built on; compared under the lock. Empty for a new room."""
    extremities: tuple[EventRef, ...]
    """The room's extremities with it."""
    room_state: StateRef
    """The room's current state with it."""
    prev: tuple[EventRef, ...] = ()
    auth: tuple[EventRef, ...] = ()
    changes: tuple[StateChange, ...] = ()
    """What it changes in the room's current state: its own key, or more when branches meet."""
    key_nid: int | None = None
    replaces: EventRef | None = None
    new_states: tuple[NewState, ...] = ()
    """States made by resolution that it, or the room with it, stands on."""
    redacts: PersistedEvent | None = None
    """The event that this redaction takes effect on, if it may and is here."""
    waits_for: EventId | None = None
    """The event that this redaction will take effect on when it comes."""
    original: bytes | None = None
    """Of an event that is redacted as it comes: its JSON before that."""
    superseded: StateChange | None = None
    """Of a state event that does not become current state, because branches met: what stands at its key."""
    opens_gap: bool = False
    """Previous events of it are not here: what comes before it may be found later (`graph.gaps`)."""
    fills_gap: bool = False
    """Events that are here name it as previous: it is no forward extremity."""
    was: EventRef | None = None
    """The outlier that becomes a whole event."""
    place: int = FOLLOWS
    """FOLLOWS, BESIDE or ADOPTS. The room of the latter two has its row already; of ADOPTS `changes` are those of our users."""

    @property
    @override
    def size(self) -> int:
        return self.persisted.size + ENTRY_BYTES

    @property
    def missing(self) -> list[EventId]:
        """Of an event that is being written: its previous events that are not here."""
        here = {ref.event_id for ref in self.prev}
        return [each for each in dict.fromkeys(self.persisted.event.prev_event_ids) if each not in here]

    @property
    def by_resolution(self) -> list[StateChange]:
        """Changes of the room's current state that no client reads off the event itself."""
        own = self.persisted.event.event_id
        return [change for change in self.changes if change.ref is None or change.ref.event_id != own]


class RedactedEntry(Entry, frozen=True):
    """Events that are redacted by one that is no redaction: a kick or ban of their sender. spec: MSC4293"""

    room_nid: int
    because: PersistedEvent
    targets: tuple[PersistedEvent, ...]

    @property
    @override
    def size(self) -> int:
        return ENTRY_BYTES * (1 + len(self.targets))


class BackfillEntry(Entry, frozen=True):
    """Older events of a room that were found in gaps of its history. Told in no sync."""

    room_nid: int
    rows: tuple[tuple[int, EventEntry], ...]
    """(event_nid, the event); of events read again their JSON and what they redact alone."""
    gaps: tuple[tuple[int, tuple[EventId, ...]], ...] = ()
    """Gap -> what is missing in it now. Of an entry that is being written."""

    @property
    @override
    def size(self) -> int:
        return ENTRY_BYTES + sum([row.size for _, row in self.rows])
