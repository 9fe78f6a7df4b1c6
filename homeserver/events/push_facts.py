"""What the default push rules ask of an event, answered once when it is written: a few bits, its thread, whom it mentions.

Counting what is unread then needs no look into events: most users have the default rules, or switched some of them off,
and those ask nothing else. The room is asked as it was when the event came (how many members it had, what its sender was
allowed), so that an event counts the same whoever counts it, and whenever.

spec: client-server-api/#predefined-rules (PUSH-03), #threaded-read-receipts (EPH-05)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from homeserver.events.content.power_levels import PowerLevels
from homeserver.events.event import Event
from homeserver.events.push_rules import may_notify
from homeserver.events.sticky import duration_of, may_be_sticky
from homeserver.matrix.ids import EventId

MESSAGE: Final = 1
ENCRYPTED: Final = 2
CALL: Final = 4
NOTICE: Final = 8
EDIT: Final = 16
REACTION: Final = 32
TOMBSTONE: Final = 64
SERVER_ACL: Final = 128
MEMBER: Final = 256
TWO_MEMBERS: Final = 512
"""Exactly two were joined."""
ROOM_MENTION: Final = 1024
"""Mentions everybody, and its sender may."""
BODY: Final = 2048
"""`content.body` is a string."""
STICKY: Final = 8192
"""No rule asks for it: it may say that it is sticky (MSC4354), and is taken for it if it does."""
BRANCHED: Final = 4096
"""No rule asks for it: the state before the event is not what the room's state was when it came. Who may see it does not follow
from who was in the room by then."""
UNREAD_DIFFERS: Final = 16384
"""No rule asks for it: whether the event marks its room as unread (MSC2654) is not what the other facts say. Events written before
there was this bit are taken at their other facts."""

_TYPES: Final = {
    "m.room.message": MESSAGE,
    "m.room.encrypted": ENCRYPTED,
    "m.call.invite": CALL,
    "m.reaction": REACTION,
    "m.room.member": MEMBER,
}
_STATE_TYPES: Final = {"m.room.tombstone": TOMBSTONE, "m.room.server_acl": SERVER_ACL}
_UNREAD_STATE: Final = {"m.room.name", "m.room.topic", "m.room.avatar", "m.room.tombstone"}


class Facts(NamedTuple):
    """Of one event; immutable, shared where equal."""

    bits: int
    thread: EventId | None = None
    """The root of the thread it is in; None: the main timeline."""
    mentions: tuple[int, ...] = ()
    """user_nids of those of our users in the room whom it mentions."""


@lru_cache(maxsize=4096)
def plain(bits: int) -> Facts:
    """Facts of an event in the main timeline that mentions nobody."""
    return Facts(bits)


NO_FACTS: Final = plain(0)


def mentioned_users(event: Event) -> list[str]:
    """Whom the event says it mentions, whoever that may be."""
    mentions = event.content.get("m.mentions")
    users = mentions.get("user_ids") if isinstance(mentions, dict) else None
    return [user for user in users if isinstance(user, str)] if isinstance(users, list) else []


def mentions_room(event: Event) -> bool:
    """Whether the event asks to notify everybody."""
    mentions = event.content.get("m.mentions")
    return isinstance(mentions, dict) and mentions.get("room") is True


def marks_unread(bits: int) -> bool:
    """Whether an event with these facts marks its room as unread for those who did not send it. spec: MSC2654"""
    shown = bits & (BODY | ENCRYPTED | TOMBSTONE) and not bits & EDIT
    notice = bits & (MESSAGE | NOTICE) == MESSAGE | NOTICE
    return bool(shown and not notice) is not bool(bits & UNREAD_DIFFERS)


def _marks_unread(event: Event) -> bool:
    """The same, asked of the event itself. spec: MSC2654, "Unread events"."""
    content, is_state = event.content, event.state_key is not None
    body, relation = content.get("body"), content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return False
    if event.type == "m.room.message" and not is_state and content.get("msgtype") == "m.notice":
        return False
    if isinstance(body, str) and body:
        return True
    return event.type == "m.room.encrypted" or (is_state and event.type in _UNREAD_STATE)


def facts_of(
    event: Event,
    *,
    member_count: int,
    levels: PowerLevels | None,
    thread: EventId | None,
    mentions: tuple[int, ...],
) -> Facts:
    """All of it. `levels` may be None where the event does not mention the room."""
    content = event.content
    # `event_match` does not look at case.
    bits = _TYPES.get(event.type.lower(), 0)
    if event.state_key == "":
        bits |= _STATE_TYPES.get(event.type.lower(), 0)
    if member_count == 2:
        bits |= TWO_MEMBERS
    kind = content.get("msgtype")
    if isinstance(kind, str) and kind.lower() == "m.notice":
        bits |= NOTICE
    if isinstance(content.get("body"), str):
        bits |= BODY
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        bits |= EDIT
    if levels is not None and mentions_room(event) and may_notify(levels, event.sender, "room"):
        bits |= ROOM_MENTION
    if may_be_sticky(event) and duration_of(event) is not None:
        bits |= STICKY
    if _marks_unread(event) is not marks_unread(bits):
        bits |= UNREAD_DIFFERS
    return Facts(bits, thread, mentions) if thread or mentions else plain(bits)
