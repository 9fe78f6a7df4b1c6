"""Which events a user may see, and what the user was in the room then: the state before each event, in few queries.

spec: client-server-api/#room-history-visibility (HV-01 to HV-04); the table itself is `events/visibility.py`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.events.visibility import Stage, history_visibility_of, is_visible, stages
from homeserver.graph.events import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import JOIN, MEMBERSHIP_NAMES, MEMBERSHIPS
from homeserver.graph.room import Room
from homeserver.graph.states import StateStore
from homeserver.graph.stored import Stored
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database

HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")


class Viewer(NamedTuple):
    """Who looks."""

    user_id: UserId
    user_nid: int


class Visible(NamedTuple):
    """An event the viewer may see."""

    stored: Stored
    membership: int
    """The viewer's at the event: JOIN … BAN, 0 for none (unsigned.membership)."""


class VisibilityFilter:
    """One per process."""

    def __init__(self, db: Database, interning: Interning, events: EventCache, states: StateStore) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._states = states

    async def one(self, viewer: Viewer, room: Room, stored: Stored) -> Visible | None:
        """None if the viewer may not see the event."""
        found = await self.many(viewer, {room: [stored]})
        return found[room][0] if found[room] else None

    async def many(self, viewer: Viewer, pages: Mapping[Room, Sequence[Stored]]) -> dict[Room, list[Visible]]:
        """Those events of each room that the viewer may see, order kept. At most four queries for all rooms together."""
        member_key: StateKey = ("m.room.member", viewer.user_id)
        keys = await self._interning.find_key_nids([HISTORY_VISIBILITY, member_key])
        unsure = {
            stored.state_before.nid
            for room, page in pages.items()
            for stored in page
            if not stored.hidden and not _plain(room, viewer, stored)
        }
        values = await self._states.values(unsure, list(keys.values())) if unsure else {}
        contents = await self._events.load({nid for state in values.values() for nid in state.values()})
        last_joins = await self._last_joins(viewer, pages)
        result: dict[Room, list[Visible]] = {}
        for room, page in pages.items():
            seen = result[room] = []
            joined = room.membership(viewer.user_id) == JOIN
            for stored in page:
                if stored.hidden:
                    continue
                if _plain(room, viewer, stored):
                    seen.append(Visible(stored, JOIN))
                    continue
                state = values[stored.state_before.nid]
                visibility = contents.get(state.get(keys.get(HISTORY_VISIBILITY, 0), 0))
                member = contents.get(state.get(keys.get(member_key, 0), 0))
                name = (member.event.membership if member else None) or "leave"
                before, after = stages(
                    stored.event,
                    Stage(history_visibility_of(visibility.event if visibility else None), name),
                    viewer.user_id,
                )
                later = joined or last_joins.get(room.name.nid, 0) > stored.nid
                if is_visible(before, after, joined_later=later):
                    seen.append(Visible(stored, MEMBERSHIPS.get(after.membership, 0)))
        return result

    async def _last_joins(self, viewer: Viewer, pages: Mapping[Room, Sequence[Stored]]) -> dict[int, int]:
        """Where the viewer is not joined now: position of the last join."""
        left = [room.name.nid for room in pages if room.membership(viewer.user_id) not in (JOIN, 0)]
        if not left:
            return {}
        async with self._db.read() as tx:
            rows = await tx.all(
                """
                SELECT room_nid, max(event_nid) FROM memberships
                WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) AND membership = 1 GROUP BY room_nid
                """,
                user=viewer.user_nid,
                rooms=left,
            )
        return dict(rows)


def _plain(room: Room, viewer: Viewer, stored: Stored) -> bool:
    """A live event after the viewer's last membership change, the viewer being joined: seen whatever the visibility."""
    member = room.members.get(viewer.user_id)
    return member is not None and member.membership == JOIN and stored.nid > member.event_nid


def membership_name(membership: int) -> str:
    """The word for JOIN … BAN; `leave` for none."""
    return MEMBERSHIP_NAMES.get(membership, "leave")
