"""What is asked of many memberships at once reads each of them once, whatever the planner knows of the tables.

A room of many members that another server sends is there within seconds; statistics come a minute later.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from homeserver.e2ee.tracking_store import find_moves
from homeserver.graph.state.drift import find_newest_members
from homeserver.push.store import Pair, find_joins_of
from tests.support.plans import Recorded, explain, rows_read

MEMBERS, ROOM = 2_000, 1


def room(connection: psycopg.Connection[Any], room_nid: int, first: int, last: int) -> None:
    """A room whose members have these numbers; each has left it before, and come back."""
    numbers = {"room": room_nid, "first": first, "last": last}
    connection.execute(
        """
        INSERT INTO users (user_nid, user_id)
        SELECT n, '@' || n || ':elsewhere' FROM generate_series(%(first)s::integer, %(last)s::integer) n
        """,
        numbers,
    )
    connection.execute(
        """
        INSERT INTO event_keys (key_nid, type, state_key)
        SELECT n, 'm.room.member', '@' || n || ':elsewhere' FROM generate_series(%(first)s::integer, %(last)s::integer) n
        """,
        numbers,
    )
    connection.execute(
        """
        INSERT INTO current_state (room_nid, event_nid, user_nid, key_nid, membership)
        SELECT %(room)s, 1000000 + n, n, n, 1 FROM generate_series(%(first)s::integer, %(last)s::integer) n
        """,
        numbers,
    )
    connection.execute(
        """
        INSERT INTO past_memberships (room_nid, event_nid, user_nid, membership)
        SELECT %(room)s, n, n, 4 FROM generate_series(%(first)s::integer, %(last)s::integer) n
        """,
        numbers,
    )


def nothing(_: psycopg.Connection[Any]) -> int:
    """Nobody has looked at the tables. Returns the first free number."""
    return 1


def empty(connection: psycopg.Connection[Any]) -> int:
    connection.execute("ANALYZE")
    return 1


def one_room(connection: psycopg.Connection[Any]) -> int:
    room(connection, ROOM + 1, 1, 5)
    connection.execute("ANALYZE")
    return 6


def small_rooms(connection: psycopg.Connection[Any]) -> int:
    for n in range(100):
        room(connection, ROOM + 1 + n, 4 * n + 1, 4 * n + 4)
    connection.execute("ANALYZE")
    return 401


def half(connection: psycopg.Connection[Any]) -> int:
    room(connection, ROOM, 1, MEMBERS // 2)
    connection.execute("ANALYZE")
    return MEMBERS // 2 + 1


async def drift(recorded: Any) -> None:
    await find_newest_members(recorded, ROOM)


async def device_lists(recorded: Any) -> None:
    await find_moves(recorded, [ROOM], 0, 2_000_000)


async def push(recorded: Any) -> None:
    await find_joins_of(recorded, [Pair(n, ROOM) for n in range(MEMBERS - 500, MEMBERS)])


@pytest.mark.parametrize("known", [nothing, empty, one_room, small_rooms, half])
@pytest.mark.parametrize("question", [drift, device_lists, push])
async def test_each_membership_is_read_once(
    database: str,
    known: Callable[[psycopg.Connection[Any]], int],
    question: Callable[[Any], Awaitable[None]],
) -> None:
    recorded = Recorded()
    await question(recorded)
    with psycopg.connect(database) as connection:
        room(connection, ROOM, known(connection), MEMBERS)
        for statement in recorded.statements:
            plan = explain(connection, *statement)
            assert rows_read(plan) <= 20 * MEMBERS, json.dumps(plan)
    assert recorded.statements
