"""Sections that many readers share: members who have been in a room for a while, and ask for the same slice of the log
with the same plain wishes, are told the same, byte for byte. Long polls that wake together are such readers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from homeserver.graph.entry import EventEntry, RedactedEntry, touches_state
from homeserver.graph.persisted_event import LATER
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.sync.selection.selector import Given
from homeserver.sync.selection.timeline import Timeline
from homeserver.sync.types import SyncRequest

V = TypeVar("V")

KEPT = 256
NOBODY: frozenset[int] = frozenset()


class Key(NamedTuple):
    """What decides how a section reads."""

    room_nid: int
    since: Position
    upto: Position
    start: Position
    """Where the timeline begins: limits may differ."""
    state_after: str | None
    members: frozenset[int]
    """Member events of senders that a reader who loads members lazily has not been given yet."""


class Shared(Generic[V]):
    """What rooms have told, for readers to whom they read alike; a bounded cache, which a redaction empties: what is stripped may
    stand in it. A projection for that.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[Key, V] = OrderedDict()
        self.emptied = 0
        """How often."""

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._applied, touches_state), RedactedEntry: self._redacted}

    def reset(self) -> None:
        self.emptied += 1
        self._told.clear()

    def get(self, key: Key) -> V | None:
        """As it was put."""
        return self._told.get(key)

    def put(self, key: Key, told: V, emptied: int) -> None:
        """`emptied`: as it was before `told` was begun; what was told before a redaction is not kept beyond it."""
        if emptied != self.emptied:
            return
        self._told[key] = told
        if len(self._told) > KEPT:
            self._told.popitem(last=False)

    def _applied(self, _: Position, entry: EventEntry) -> None:
        if entry.redacts is not None:
            self.reset()

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        del entry
        self.reset()


def has_plain_wishes(request: SyncRequest) -> bool:
    """Whether the reader asks for nothing that makes their answer their own."""
    return (
        request.recent is not None and not request.full_state and not request.ignored and request.filter.plain
    )


def key_of(request: SyncRequest, room: Room, timeline: Timeline, given: Given | None) -> Key | None:
    """None where the reader's section is their own: membership changed, own messages, gaps, summaries.

    `given`: the member events that a reader who loads members lazily has; None: they have all.
    """
    assert request.since is not None
    told = timeline.told
    member = room.members.get(request.requester.user_id)
    if told is None or member is None or member.membership != JOIN:
        return None
    if min(told.first, told.before) <= max(member.event_nid, member.since):
        return None
    user_nid = request.requester.user_nid
    if (user_nid, request.requester.device_id) in told.devices or (user_nid, LATER) in told.devices:
        return None
    nid = room.name.nid
    fresh = NOBODY
    if given is not None:
        members = {found.event_nid for sender in told.senders if (found := room.members.get(sender))}
        fresh = frozenset(at for at in members if (nid, at) not in given)
    return Key(nid, request.since, request.upto, timeline.start, request.state_after, fresh)
