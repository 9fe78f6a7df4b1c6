"""SQL of rooms that are taken as another server has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import LEAVE
from homeserver.matrix.ids import ServerName
from homeserver.storage.tx import Pipeline, Tx


class StateRow(NamedTuple):
    """A key of a room's current state."""

    key_nid: int
    event_nid: int
    user_nid: int
    """Of m.room.member, else 0."""
    membership: int
    """JOIN … BAN; 0: none."""
    local: bool
    """The membership of one of our users."""


async def insert_room(tx: Tx, name: RoomIdentity) -> None:
    """A room of which nothing is here yet; nothing if there is one of that id."""
    await tx.execute(
        """
        INSERT INTO rooms (room_nid, room_id, version, extremities, depth, state_nid, state_height)
        VALUES (%(nid)s, %(id)s, %(version)s, '{}', 0, 0, 0) ON CONFLICT (room_id) DO NOTHING
        """,
        nid=name.nid,
        id=name.room_id,
        version=name.version.id,
    )


def set_version(batch: Pipeline, room_nid: int, version: str) -> None:
    """What was said of a room before this server was in it was not so."""
    batch.execute(
        "UPDATE rooms SET version = %(version)s WHERE room_nid = %(room)s", room=room_nid, version=version
    )


async def find_current_state(tx: Tx, room_nid: int) -> dict[int, int]:
    """key_nid -> event_nid."""
    return dict(
        await tx.all("SELECT key_nid, event_nid FROM current_state WHERE room_nid = %(room)s", room=room_nid)
    )


async def next_state_number(tx: Tx) -> int:
    """For a state that no event stands for."""
    return int(await tx.value("SELECT nextval('resolved_state_nids')"))


def keep_past_memberships(
    batch: Pipeline, room_nid: int, rows: Sequence[StateRow], gone: Sequence[int], position: int
) -> None:
    """Before a room that this server was in gets the state it has now elsewhere: who was in it until then. `gone`: key_nids that
    are no longer set. `position`: the join's.
    """
    batch.execute(
        """
        WITH next AS (
            SELECT key, membership FROM unnest(%(keys)s::int[], %(memberships)s::smallint[]) AS row (key, membership)
        ), passed AS (
            SELECT c.user_nid, coalesce(c.since, c.event_nid) AS since, c.membership, next.membership AS becomes
            FROM current_state c JOIN next ON c.key_nid = next.key
            WHERE c.room_nid = %(room)s AND c.user_nid IS NOT NULL AND c.membership IS NOT NULL
        )
        INSERT INTO past_memberships (user_nid, event_nid, room_nid, membership)
        SELECT user_nid, since, %(room)s, membership FROM passed
        UNION
        SELECT user_nid, %(position)s, %(room)s, %(leave)s FROM passed WHERE becomes = 0
        ON CONFLICT DO NOTHING
        """,
        room=room_nid,
        keys=[*(row.key_nid for row in rows), *gone],
        memberships=[*(row.membership for row in rows), *(0 for _ in gone)],
        position=position,
        leave=LEAVE,
    )


def put_current_state(
    batch: Pipeline, room_nid: int, rows: Sequence[StateRow], since: int | None = None
) -> None:
    """What stands at these keys from now on. `since`: the position from which this server knows of it; None: it was so before."""
    batch.execute(
        """
        INSERT INTO current_state (room_nid, key_nid, event_nid, user_nid, membership, since)
        SELECT %(room)s, key, event, nullif(usr, 0), nullif(membership, 0),
               CASE WHEN usr <> 0 THEN %(since)s::bigint END
        FROM unnest(%(keys)s::int[], %(events)s::bigint[], %(users)s::bigint[], %(memberships)s::smallint[])
             AS row (key, event, usr, membership)
        ON CONFLICT (room_nid, key_nid) DO UPDATE
            SET event_nid = excluded.event_nid, user_nid = excluded.user_nid, membership = excluded.membership,
                since = excluded.since
        """,
        room=room_nid,
        since=since,
        keys=[row.key_nid for row in rows],
        events=[row.event_nid for row in rows],
        users=[row.user_nid for row in rows],
        memberships=[row.membership for row in rows],
    )


def delete_current_state(batch: Pipeline, room_nid: int, key_nids: Sequence[int]) -> None:
    """These keys are not set any more."""
    batch.execute(
        "DELETE FROM current_state WHERE room_nid = %(room)s AND key_nid = ANY(%(keys)s::int[])",
        room=room_nid,
        keys=list(key_nids),
    )


def put_stripped_state(batch: Pipeline, event_nid: int, events: bytes, servers: Sequence[ServerName]) -> None:
    """What came with an invite or a knock: JSON list of stripped state events, and who has sent it."""
    batch.execute(
        """
        INSERT INTO stripped_states (event_nid, events, servers)
        VALUES (%(nid)s, %(events)s, %(servers)s::text[]) ON CONFLICT DO NOTHING
        """,
        nid=event_nid,
        events=events,
        servers=list(servers),
    )


async def find_told(tx: Tx, event_nid: int) -> tuple[bytes, list[ServerName]]:
    """What came with an invite or a knock: JSON list of stripped state events, and who has sent it."""
    row = await tx.one("SELECT events, servers FROM stripped_states WHERE event_nid = %(nid)s", nid=event_nid)
    return (row[0], row[1] or []) if row is not None else (b"[]", [])
