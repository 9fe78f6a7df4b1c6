"""Sections that many readers share: members who have been in a room for a while, and ask for the same slice of the log
with the same plain wishes, are told the same, byte for byte. Long polls that wake together are such readers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from homeserver.graph.persisted_event import LATER
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.sync.selection.selector import Given
from homeserver.sync.selection.timeline import Timeline
from homeserver.sync.types import SyncRequest

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


class SharedSections:
    """Sections of rooms as bytes, for readers to whom they read alike; a bounded cache."""

    def __init__(self) -> None:
        self._sections: OrderedDict[Key, bytes] = OrderedDict()

    def get(self, key: Key) -> bytes | None:
        return self._sections.get(key)

    def put(self, key: Key, section: bytes) -> None:
        self._sections[key] = section
        if len(self._sections) > KEPT:
            self._sections.popitem(last=False)

    def clear(self) -> None:
        """Something in them may have been redacted."""
        self._sections.clear()


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
