"""The facts that push rules ask for, of an event that is about to be written to a room.

spec: client-server-api/#predefined-rules, #threaded-read-receipts (EPH-05)
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.events.auth_rules.power import levels_in
from homeserver.events.event import Event, StateKey
from homeserver.events.push_facts import Facts, facts_of, mentioned_users, mentions_room
from homeserver.graph.event_cache import EventCache
from homeserver.graph.relations import Relation, relation_of
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import EventId, UserId


def facts_in(
    room: Room,
    event: Event,
    state: Mapping[StateKey, Event],
    related_thread: EventId | None,
    joined: int | None = None,
) -> Facts:
    """`state`: with the room's creation and power levels. `related_thread`: that of what the event relates to.

    `joined`: how many members the room has by then; None: as many as it has now.
    """
    members = [room.members.get(UserId(user)) for user in mentioned_users(event)]
    return facts_of(
        event,
        member_count=room.joined_count if joined is None else joined,
        levels=levels_in(state, room.name.version) if mentions_room(event) else None,
        thread=_own_thread(event) or related_thread,
        mentions=tuple(dict.fromkeys(m.user_nid for m in members if m is not None and m.local)),
    )


async def thread_of_related(events: EventCache, room_nid: int, relation: Relation) -> EventId | None:
    """The thread of the event that a relation points at, which is that of the event that has the relation.

    What points at the root itself is in the main timeline, as the root is.
    """
    if relation.rel_type == "m.thread":
        return None  # it says so itself
    parent = await events.by_id(relation.parent_id)
    return parent.facts.thread if parent is not None and parent.room_nid == room_nid else None


def _own_thread(event: Event) -> EventId | None:
    """The root of the thread an event says itself to be in."""
    relation = relation_of(event)
    if relation is None or relation.rel_type != "m.thread" or not relation.parent_id.startswith("$"):
        return None
    return relation.parent_id
