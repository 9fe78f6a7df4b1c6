"""What must be true of the database and the server after any amount of abuse.

An invariant is a coroutine function that takes the running server and raises AssertionError. Add one with `@invariant`:
every fuzz run checks all of them at its end.
"""

from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import psycopg

from tests.support.server import Server

Invariant = Callable[[Server], Awaitable[None]]
ALL: list[Invariant] = []


def invariant(check: Invariant) -> Invariant:
    """Registers a check; its name is its sentence."""
    ALL.append(check)
    return check


async def check_all(server: Server) -> None:
    """Runs every invariant and reports all that fail."""
    broken = []
    for check in ALL:
        try:
            await check(server)
        except AssertionError as error:
            broken.append(f"{check.__name__}: {error}")
    assert not broken, "\n".join(broken)


@invariant
async def positions_are_gapless_and_the_head_is_the_last_of_them(server: Server) -> None:
    rows = await query(
        server,
        "SELECT count(*), min(position), max(position), (SELECT position FROM log_head) FROM log_feed",
    )
    count, first, last, head = rows[0]
    if count:
        assert count == last - first + 1, f"{count} rows between {first} and {last}"
        assert last == head, f"the feed ends at {last}, the head is {head}"


@invariant
async def nothing_points_at_an_event_that_is_not_there(server: Server) -> None:
    """An event was written with its state and its room, or not at all."""
    for what, find in {
        "current state without its event": """
            SELECT c.room_nid, c.event_nid FROM current_state c LEFT JOIN events e USING (event_nid)
            WHERE e.event_nid IS NULL""",
        "a membership without its event": """
            SELECT m.user_nid, m.event_nid FROM memberships m LEFT JOIN events e USING (event_nid)
            WHERE e.event_nid IS NULL""",
        "an extremity without its event": """
            SELECT r.room_id, x FROM rooms r, unnest(r.extremities) x LEFT JOIN events e ON e.event_nid = x
            WHERE e.event_nid IS NULL""",
        "an event whose state is not stored": """
            SELECT e.event_id FROM events e LEFT JOIN state s USING (state_nid)
            LEFT JOIN events after ON after.event_nid = e.state_nid AND after.key_nid IS NOT NULL
            WHERE e.state_nid <> 0 AND s.state_nid IS NULL AND after.event_nid IS NULL""",
        "an event beyond the head of the log": """
            SELECT event_id FROM events WHERE event_nid > (SELECT position FROM log_head)""",
        "a room without m.room.create": """
            SELECT r.room_id FROM rooms r WHERE NOT EXISTS (
                SELECT FROM current_state c JOIN event_keys k USING (key_nid)
                WHERE c.room_nid = r.room_nid AND k.type = 'm.room.create')""",
        "a room whose members are nobody's": """
            SELECT c.room_nid FROM current_state c LEFT JOIN users u USING (user_nid)
            WHERE c.user_nid IS NOT NULL AND u.user_nid IS NULL""",
    }.items():
        found = await query(server, find)
        assert not found, f"{what}: {found[:3]}"


@invariant
async def no_transaction_is_left_open(server: Server) -> None:
    open_ones = await query(
        server,
        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'"
        " AND state_change < now() - interval '2 seconds'",
    )
    assert not open_ones, str(open_ones)


@invariant
async def people_can_still_chat(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(invite=[bob.user_id])
    await bob.join(room)
    await alice.send(room, "still here?")
    await bob.sees(room, "still here?")


async def query(server: Server, text: LiteralString) -> list[tuple[Any, ...]]:
    """Rows of one query on the server's own database, over a connection of the test's."""
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        cursor = await connection.execute(text)
        return list(await cursor.fetchall())
