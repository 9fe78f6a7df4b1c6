"""What is asked and told of rooms in one answer. Values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from homeserver.graph.read.visibility import Visible
from homeserver.matrix.ids import UserId
from homeserver.sync.sliding.connection import Sent
from homeserver.sync.sliding.shared import Section
from homeserver.sync.sliding.windows import Rule


class Wanted(NamedTuple):
    """What a request wants of rooms."""

    rules: Mapping[int, Rule]
    """Of rooms that match, what is wanted of them."""
    direct: AbstractSet[int]
    """Rooms that are conversations with one person."""
    stubs: bool
    """Whether the client knows stubs of state that is there no longer. spec: MSC4186, "StateStub"."""


class Told(NamedTuple):
    """What an answer tells of rooms."""

    sections: dict[int, Section]
    rooms: dict[int, Sent]
    """Of the rooms in it, what the connection knows with it; rooms that were left are absent."""
    gone: frozenset[int]
    """Rooms that were left: the connection need not know them any longer."""
    members: set[tuple[int, int]]
    """(room_nid, event_nid) of members that were told to who loads them lazily."""
    counted: frozenset[int]
    """Rooms the user is joined to, of which counts are told."""
    later: bool = False
    """Whether there are rooms that did not fit in."""
    shown: Mapping[int, Sequence[Visible]] = {}
    """Of rooms with news, the events of their timelines."""
    people: Mapping[int, Collection[UserId]] = {}
    """Of rooms that load members lazily, those whose memberships are told."""


def nothing_told() -> Told:
    """What others add to."""
    return Told({}, {}, frozenset(), set(), frozenset())
