"""What of an event is searched, and how it stands in the index and in a query.

A row's words are a `tsvector` with the place of each word. With them stand words that nobody can type: the room, and the blocks of
the log that the event is in, so that the index alone tells what matches in some rooms, and in a part of the log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import dropwhile
from typing import Any, Final, NamedTuple

from homeserver.events.event import Event
from homeserver.graph.relations import read_relation
from homeserver.matrix.cutting import Term, Token, cut

MESSAGE, FILE, NAME, TOPIC = 1, 2, 3, 4
"""Kinds of entries: a message, one with a `url`, a room's name, a room's topic."""
KINDS: Final = {
    "content.body": (MESSAGE, FILE),
    "content.name": (NAME,),
    "content.topic": (TOPIC,),
}
"""The keys that can be searched. spec: client-server-api/#search-categories"""
TYPES: Final = {
    MESSAGE: "m.room.message",
    FILE: "m.room.message",
    NAME: "m.room.name",
    TOPIC: "m.room.topic",
}
BLOCKS: Final = (("a", 12), ("b", 16), ("c", 20), ("d", 24))
"""Letter and size (a power of 2, in positions of the log) of the blocks that the index knows, the smallest first."""


class Text(NamedTuple):
    """What is searched of an event."""

    kind: int
    text: str


def is_searched(event: Event) -> bool:
    """Whether events of this type are searched."""
    if event.type == "m.room.message":
        return event.state_key is None
    return event.type in {"m.room.name", "m.room.topic"} and event.state_key == ""


def text_of(event: Event, edit: Event | None) -> Text | None:
    """None: nothing. `edit`: the newest one, whose text counts; a `url` is the event's own."""
    content = event.content
    if event.type == "m.room.message":
        newest = edit.content.get("m.new_content") if edit is not None else content
        text = _message(newest) if isinstance(newest, dict) else ""
        kind = FILE if isinstance(content.get("url"), str) else MESSAGE
    elif event.type == "m.room.name":
        kind, text = NAME, _string(content, "name")
    else:
        kind, text = TOPIC, _topic(content)
    return Text(kind, text) if text else None


def _message(content: Mapping[str, Any]) -> str:
    body, name = _string(content, "body"), _string(content, "filename")
    if body.startswith("> ") and _is_reply(content):
        # spec: client-server-api/v1.12 #fallbacks-for-rich-replies: what is quoted was not said here.
        lines = body.split("\n")
        said = dropwhile(lambda line: line == ">" or line.startswith("> "), lines)
        body = "\n".join(said)
    return f"{body}\n{name}" if name and name != body else body


def _is_reply(content: Mapping[str, Any]) -> bool:
    relates = content.get("m.relates_to")
    return isinstance(relates, dict) and isinstance(relates.get("m.in_reply_to"), dict)


def _topic(content: Mapping[str, Any]) -> str:
    """The topic, and its `m.topic` text where that says something else. spec: client-server-api/#mroomtopic"""
    texts = [_string(content, "topic")]
    block = content.get("m.topic")
    given = block.get("m.text") if isinstance(block, dict) else None
    if isinstance(given, list):
        texts += [_string(each, "body") for each in given[:10] if isinstance(each, dict)]
    return "\n".join(dict.fromkeys(filter(None, texts)))


def _string(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) else ""


def is_edit(event: Event) -> bool:
    """Whether it says to replace another one: not searched by itself."""
    relation = read_relation(event.content)
    return relation is not None and relation.rel_type == "m.replace"


def vector(text: str, room_nid: int, event_nid: int) -> str | None:
    """A `tsvector` as PostgreSQL reads it. None: there are no words in the text."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(cut(text), 1):
        places.setdefault(word, []).append(place)
    if not places:
        return None
    # PostgreSQL keeps 255 places of a word; and none after the 16 383rd, which it takes for that one.
    parts = [f"'{word}':{','.join(map(str, at[:255]))}" for word, at in places.items()]
    parts += [f"'{mark}'" for mark in (_room(room_nid), *(_block(n, event_nid) for n in range(len(BLOCKS))))]
    return " ".join(parts)


def query(term: Term) -> str:
    """A `tsquery` of the words alone; the term has some."""
    return " & ".join("(" + " <-> ".join(map(_token, row)) + ")" for row in term.rows)


def query_apart(term: Term, *, beginnings: bool) -> str | None:
    """A `tsquery` of the words, wherever they stand, with or without those that may be beginnings. None: there are none."""
    tokens = dict.fromkeys(token for row in term.rows for token in row if beginnings or not token.prefix)
    return " & ".join(map(_token, tokens)) or None


def query_begun(term: Term) -> str | None:
    """A `tsquery` of any word with one of the term's beginnings. None: it has none."""
    tokens = dict.fromkeys(token for row in term.rows for token in row if token.prefix)
    return " | ".join(map(_token, tokens)) or None


def query_in(words: str | None, rooms: Collection[int], block: tuple[int, int] | None) -> str:
    """A `tsquery` of a query (None: of anything) in some rooms (none: in all) and one block (an index of `BLOCKS`, and a position
    in it). It must say something.
    """
    parts = [] if words is None else [words]
    if rooms:
        parts.append("(" + " | ".join(f"'{_room(nid)}'" for nid in rooms) + ")")
    if block is not None:
        parts.append(f"'{_block(*block)}'")
    return " & ".join(parts)


def room_mark(room_nid: int) -> str:
    """A `tsquery` of everything in a room."""
    return f"'{_room(room_nid)}'"


def _room(room_nid: int) -> str:
    return f".r{room_nid}"


def _block(size: int, event_nid: int) -> str:
    letter, bits = BLOCKS[size]
    return f".{letter}{event_nid >> bits}"


def _token(token: Token) -> str:
    return f"'{token.text}':*" if token.prefix else f"'{token.text}'"
