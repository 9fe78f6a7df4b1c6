"""What one user has not read in one room: how many events notify, how many highlight, how many
mark the room as unread, per thread.

An unread count says what it knows up to a position of the log and is moved on by the events after it. What cannot be told from
those (an event that counted is redacted, a receipt ends in the middle) makes it stale: it is counted anew.

spec: client-server-api/#receiving-notifications, #threaded-read-receipts (PUSH-14, EPH-04, EPH-05, RED-07), MSC2654
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from homeserver.events.push_facts import MEMBER, marks_unread
from homeserver.events.push_rules import SILENT, Around, EvaluationContext, Outcome
from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import HIDDEN
from homeserver.log.entries import Position, Written
from homeserver.matrix import json
from homeserver.matrix.glob import OutOfWork, WorkBudget
from homeserver.push.evaluator import Evaluator
from homeserver.receipts.types import UNTHREADED

MAIN: Final = "main"
UNREAD_COUNT: Final = "org.matrix.msc2654.unread_count"
"""spec: MSC2654"""


class Reading(NamedTuple):
    """Who counts, and how."""

    user_nid: int
    ignored: frozenset[str]
    evaluator: Evaluator
    """In this room."""
    around: Around | None
    """For plans that look into events."""
    work: WorkBudget
    """What looking into events may cost, all of them together."""


class Delta(NamedTuple):
    """What a slice of a room's events adds for whoever has this evaluator, and neither says anything in it nor is meant."""

    counts: Sequence[tuple[str, Position, Outcome, bool]]
    """Thread, event, what becomes of it, and whether it marks the room as unread: of each that does anything."""
    others: frozenset[int]
    """Users for whom it is something else."""
    upto: Position


def delta_of(events: Sequence[Written[EventEntry]], evaluator: Evaluator) -> Delta | None:
    """None if it must be told event by event."""
    counts: list[tuple[str, Position, Outcome, bool]] = []
    others: set[int] = set()
    for position, entry in events:
        persisted = entry.persisted
        if entry.redacts is not None or persisted.redaction is not None:
            return None
        others.update(change.user_nid for change in entry.changes if change.user_nid is not None)
        if persisted.flags & HIDDEN:
            continue
        others.add(persisted.sender_nid)
        others.update(persisted.facts.mentions)
        outcome = evaluator.by_fact(persisted.facts.bits, False, persisted.facts.thread)
        if outcome is None:
            return None
        marks = marks_unread(persisted.facts.bits)
        if outcome.notify or marks:
            counts.append((persisted.facts.thread or MAIN, position, outcome, marks))
    return Delta(counts, frozenset(others), events[-1].position)


class UnreadCount:
    """Of one user in one room. Changed only by what the log says."""

    __slots__ = ("_counts", "_members", "_read", "position", "unwanted_since")

    def __init__(self, position: Position, unwanted_since: Position) -> None:
        self.position = position
        """Events up to here are in."""
        self.unwanted_since = unwanted_since
        """Where whom the user ignores was changed last when it was counted: nothing of theirs is in it."""
        self._read: dict[str, Position] = {}
        """Thread, or UNTHREADED -> how far the user has read, where that is ahead of `position`."""
        self._counts: dict[str, list[int]] = {}
        """Thread -> notifications, highlights, events that mark the room as unread, and the newest event that counts as any of
        them; where there is any."""
        self._members: dict[bool, dict[str, bytes]] = {}

    def add(self, thread: str, events: int, newest: Position, outcome: Outcome, *, marks: bool) -> None:
        """Count events that are alike. `marks`: they mark the room as unread."""
        if not (outcome.notify or marks):
            return
        count = self._counts.get(thread)
        if count is None:
            count = self._counts[thread] = [0, 0, 0, 0]
        if outcome.notify:
            count[0] += events
            count[1] += events if outcome.highlight else 0
        count[2] += events if marks else 0
        count[3] = max(count[3], newest)
        self._members.clear()

    def apply(self, delta: Delta, reading: Reading) -> bool:
        """As `move`, if the slice is the same for this user as for others; False if it is not."""
        if reading.user_nid in delta.others or reading.ignored or self._reads_ahead():
            return False
        for thread, position, outcome, marks in delta.counts:
            self.add(thread, 1, position, outcome, marks=marks)
        self.position = delta.upto
        return True

    def move(self, events: Sequence[Written[EventEntry]], reading: Reading) -> bool:
        """Count the events that came after `position`, in order. False if it is stale now, or if that is too much work."""
        me = reading.user_nid
        for position, entry in events:
            if entry.redacts is not None and self._counts:
                return False
            if entry.changes and any(change.user_nid == me for change in entry.changes):
                return False
            persisted = entry.persisted
            facts = persisted.facts
            if persisted.flags & HIDDEN:
                continue
            if persisted.sender_nid == me:
                if not facts.bits & MEMBER:  # who changes their name has not read anything
                    self._forget(facts.thread or MAIN)
                continue
            if persisted.redaction is not None or not self._is_new(position, persisted, reading):
                continue
            outcome = _outcome(persisted, reading)
            if outcome is None:
                return False
            self.add(facts.thread or MAIN, 1, position, outcome, marks=marks_unread(facts.bits))
        self.position = events[-1].position
        return True

    def _reads_ahead(self) -> bool:
        """Whether receipts point at events that were not counted yet."""
        if self._read and max(self._read.values()) <= self.position:
            self._read.clear()
        return bool(self._read)

    def _is_new(self, position: Position, persisted: PersistedEvent, reading: Reading) -> bool:
        """Whether nothing says that the user has read it, or does not want to."""
        if self._read:
            thread = persisted.facts.thread or MAIN
            if position <= max(self._read.get(thread, 0), self._read.get(UNTHREADED, 0)):
                return False
        return not reading.ignored or persisted.event.sender not in reading.ignored

    def read(self, thread: str, upto: Position) -> bool:
        """A receipt of the user, in a thread or UNTHREADED. False if the count is stale now."""
        if upto > self.position:
            self._read[thread] = max(upto, self._read.get(thread, 0))
        concerned = [each for each in self._counts if thread in (UNTHREADED, each)]
        if any(upto < self._counts[each][3] for each in concerned):
            return False
        for each in concerned:
            self._forget(each)
        return True

    def _forget(self, thread: str) -> None:
        """Everything is read there."""
        if self._counts.pop(thread, None) is not None:
            self._members.clear()

    @property
    def notifications(self) -> int:
        """In all threads together."""
        return sum(count[0] for count in self._counts.values())

    def members(self, *, per_thread: bool) -> dict[str, bytes]:
        """Members of the room's section in a sync. `per_thread`: what is said of the room is said of its main timeline.
        spec: op:sync (SYNC-11, SYNC-12), MSC2654
        """
        if not self._counts:
            return NOTHING
        found = self._members.get(per_thread)
        if found is None:
            found = self._members[per_thread] = self._threads() if per_thread else self._all()
        return found

    def _all(self) -> dict[str, bytes]:
        counts = self._counts.values()
        return _section(*(sum(count[which] for count in counts) for which in range(3)))

    def _threads(self) -> dict[str, bytes]:
        members = _section(*self._counts.get(MAIN, (0, 0, 0))[:3])
        threads = [
            b"%b:%b" % (json.dumps(thread), _json(*count[:2]))
            for thread, count in self._counts.items()
            if thread != MAIN and count[0]
        ]
        if threads:
            members["unread_thread_notifications"] = b"{%b}" % b",".join(threads)
        return members


def _outcome(persisted: PersistedEvent, reading: Reading) -> Outcome | None:
    """What becomes of an event of somebody else; None if nobody can afford to find out."""
    if reading.evaluator.silent:
        return SILENT
    facts = persisted.facts
    mentioned = reading.user_nid in facts.mentions
    outcome = reading.evaluator.by_fact(facts.bits, mentioned, facts.thread)
    return _look_into(persisted, mentioned, reading) if outcome is None else outcome


def _look_into(persisted: PersistedEvent, mentioned: bool, reading: Reading) -> Outcome | None:
    """What becomes of an event that rules look into; None if nobody can afford to find out."""
    assert reading.around is not None
    context = EvaluationContext(persisted.event, reading.around)
    before = context.work.left
    outcome = reading.evaluator.decide(context, persisted.facts, mentioned)
    try:
        reading.work.spend(before - context.work.left)
    except OutOfWork:
        return None
    return outcome


def _json(notifications: int, highlights: int) -> bytes:
    return b'{"notification_count":%d,"highlight_count":%d}' % (notifications, highlights)


def _section(notifications: int, highlights: int, unread: int) -> dict[str, bytes]:
    return {"unread_notifications": _json(notifications, highlights), UNREAD_COUNT: b"%d" % unread}


NOTHING: Final = _section(0, 0, 0)
