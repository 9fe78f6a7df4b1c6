"""Events as bots see them: parsed at the edge, frozen, with the fields that matter by name.

What other people wrote is not trusted: a field of another type than the specification says counts as absent.

spec: client-server-api/#room-events, #instant-messaging, #event-annotations-and-reactions, #threading
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_FALLBACK = re.compile(r"^(?:> [^\n]*\n)+\n?")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Any event of a room."""

    event_id: str
    room_id: str
    sender: str
    type: str
    origin_server_ts: int = 0
    """ms since 1970, as the sender's server says."""
    content: Mapping[str, Any] = {}
    state_key: str | None = None
    """None: it is no state event."""
    encrypted: bool = False
    """It came encrypted, and this is what was in it."""

    @property
    def thread(self) -> str | None:
        """The root of the thread it is in."""
        relation = mapping(self.content, "m.relates_to")
        return text(relation, "event_id") if relation.get("rel_type") == "m.thread" else None

    @property
    def replaces(self) -> str | None:
        """The event that this one is an edit of."""
        relation = mapping(self.content, "m.relates_to")
        return text(relation, "event_id") if relation.get("rel_type") == "m.replace" else None


class Message(Event, frozen=True, kw_only=True):
    """`m.room.message`."""

    @property
    def msgtype(self) -> str:
        return text(self.content, "msgtype") or ""

    @property
    def body(self) -> str:
        """The text; of a reply without what older clients quote before it."""
        whole = text(self.content, "body") or ""
        return _FALLBACK.sub("", whole) if self.reply_to else whole

    @property
    def html(self) -> str | None:
        return text(self.content, "formatted_body")

    @property
    def reply_to(self) -> str | None:
        """The event it answers."""
        relation = mapping(self.content, "m.relates_to")
        return text(mapping(relation, "m.in_reply_to"), "event_id")

    @property
    def mentions(self) -> tuple[str, ...]:
        """User ids that it is meant for."""
        named = mapping(self.content, "m.mentions").get("user_ids")
        return tuple(each for each in named if isinstance(each, str)) if isinstance(named, list) else ()


class Reaction(Event, frozen=True, kw_only=True):
    """`m.reaction`."""

    @property
    def key(self) -> str:
        """The emoji."""
        return text(mapping(self.content, "m.relates_to"), "key") or ""

    @property
    def target(self) -> str:
        """The event it is a reaction to."""
        return text(mapping(self.content, "m.relates_to"), "event_id") or ""


class Member(Event, frozen=True, kw_only=True):
    """`m.room.member`."""

    @property
    def user_id(self) -> str:
        return self.state_key or ""

    @property
    def membership(self) -> str:
        return text(self.content, "membership") or ""


_TYPES: Mapping[str, type[Event]] = {
    "m.room.message": Message,
    "m.reaction": Reaction,
    "m.room.member": Member,
}


def mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that is an object; empty: it is none."""
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}


def text(content: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text; None: it is none."""
    value = content.get(name)
    return value if isinstance(value, str) else None


def parse(raw: Mapping[str, Any], *, encrypted: bool = False) -> Event | None:
    """An event of a transaction as what it is; None for what has no id, room, sender or type."""
    known = {name: raw.get(name) for name in ("event_id", "room_id", "sender", "type")}
    if not all(isinstance(value, str) and value for value in known.values()):
        return None
    moment = raw.get("origin_server_ts")
    kind = _TYPES.get(str(known["type"]), Event)
    if kind is Member and not isinstance(raw.get("state_key"), str):
        kind = Event
    return kind(
        **{name: str(value) for name, value in known.items()},
        origin_server_ts=moment if isinstance(moment, int) else 0,
        content=mapping(raw, "content"),
        state_key=text(raw, "state_key"),
        encrypted=encrypted,
    )
