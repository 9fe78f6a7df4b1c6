"""What one room tells a viewer between two positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homeserver.events.event import StateKey
from homeserver.graph.read.visibility import Visible
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId
from homeserver.sync.selection.timeline import Timeline


@dataclass(slots=True, kw_only=True)
class RoomUpdate:
    """News of a room that the viewer is joined to or has left."""

    room: Room
    joined: bool
    """Whether they are joined to it; else they have left or are banned."""
    whole: bool
    """Whether the state is all there is, not what has changed."""
    timeline: Timeline | None
    """None: nothing has happened in it, but its state is told."""
    events: Sequence[Visible]
    """Of the timeline, what the viewer may see and asked for, oldest first."""
    state: Sequence[Visible]
    """State events to be told beside the timeline, or with `state_after` in spite of it."""
    gone: Sequence[StateKey] = ()
    """Where resolution has left nothing, and the viewer was told something before: for who says which state is chosen."""
    heroes: Sequence[UserId] | None
    """None: the room's summary is no news."""
    bundles: Mapping[int, bytes] = field(default_factory=dict)
    """event_nid -> bundled aggregations of an event of the timeline, as members of `unsigned`."""
    members: frozenset[int] = frozenset()
    """Numbers of member events in it for a client that loads members lazily."""

    @property
    def limited(self) -> bool:
        """Whether events are left out before the timeline."""
        return self.timeline is not None and self.timeline.limited

    @property
    def start(self) -> Position | None:
        """Events at or before it are not in the timeline; None: there is none."""
        return self.timeline.start if self.timeline is not None else None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be told."""
        return not (self.events or self.state or self.heroes is not None or not self.joined or self.limited)
