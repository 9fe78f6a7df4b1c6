"""SQL that reads rooms into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from homeserver.graph.entry import StateChange
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import EventRef, StateRef
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix.ids import EventId, ServerName, domain_of
from homeserver.storage.tx import Tx

ROWS_AT_ONCE: Final = 1_000
"""Keys of state that are put into rooms in one turn."""


class Read(NamedTuple):
    """What was read of rooms."""

    position: Position
    """Of the log, at which this is true."""
    rooms: dict[int, Room]
    """Without their state."""
    state: Iterator[list[tuple[Any, ...]]]
    """Rows for `put`, some at a time."""


async def read_rooms(tx: Tx, names: list[RoomIdentity]) -> Read:
    """Rooms with their current state. `tx` must be one snapshot."""
    nids = [name.nid for name in names]
    async with tx.pipeline() as batch:
        head = batch.one("SELECT position FROM log_head")
        heads = batch.all(
            """
            SELECT r.room_nid, r.state_nid, r.state_height, e.event_nid, e.event_id, r.depth,
                   (SELECT max(event_nid) FROM events l WHERE l.room_nid = r.room_nid AND l.flags = 0)
            FROM rooms r LEFT JOIN events e ON e.event_nid = ANY(r.extremities)
            WHERE r.room_nid = ANY(%(nids)s::bigint[]) ORDER BY e.event_nid
            """,
            nids=nids,
        )
        state = batch.pieces(
            ROWS_AT_ONCE,
            """
            SELECT c.room_nid, k.type, k.state_key, c.key_nid, c.event_nid, c.user_nid, c.membership,
                   coalesce(c.since, c.event_nid)
            FROM current_state c JOIN event_keys k USING (key_nid)
            WHERE c.room_nid = ANY(%(nids)s::bigint[]) ORDER BY c.event_nid
            """,
            nids=nids,
        )
    assert head.result is not None
    position: Position = head.result[0]
    rooms = {name.nid: Room(name, position) for name in names}
    for room_nid, state_nid, height, event_nid, event_id, depth, last in heads.result:
        room = rooms[room_nid]
        room.room_state = StateRef(height, nid=state_nid)
        room.last_event = last or 0
        if event_nid is not None:
            # Depth of each extremity: only the greatest matters, for the next event.
            room.extremities += (EventRef(EventId(event_id), event_nid, depth),)
    return Read(position, rooms, state.result)


def put(rows: Iterable[tuple[Any, ...]], rooms: Mapping[int, Room], server_name: ServerName) -> None:
    """Put state that was read into its rooms."""
    for room_nid, kind, state_key, key_nid, event_nid, user_nid, membership, since in rows:
        local = user_nid is not None and domain_of(state_key) == server_name
        ref = EventRef(EventId(""), event_nid, 0)
        rooms[room_nid].change(
            StateChange((kind, state_key), key_nid, ref, user_nid, membership, local), since
        )
