"""How states are written down: as chains of deltas, most of which need no row of their own.

The state after a state event is the state before it and that event: the event's own row says so (`state_nid`, `key_nid`),
and nothing else is written. Rows of `state` are of two kinds: states made by resolution, which no event stands for (numbers
from `FIRST_RESOLVED` down); and shortcuts, which say of the state after an event how it differs from one much further back.
`height` is the length of a chain without shortcuts; the row at a height divisible by 16^k reaches back 16^k.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString, NamedTuple

from homeserver.storage.tx import Tx

STEP = 16
FIRST_RESOLVED = -(2**62)
"""States made by resolution have this number and lower ones; events have higher ones, backfilled ones too."""
UPKEEP_LOCK = 0x617472_53746174
"""Advisory lock of transactions that rewrite or delete rows of states: one at a time, over all processes."""

StateMap = dict[int, int]
"""key_nid -> event_nid of everything that is set."""


class BrokenState(Exception):
    """A state cannot be read: a row is missing in its chain."""

    def __init__(self, state_nid: int, missing: int) -> None:
        super().__init__(f"state {state_nid} stands on {missing}, which is neither a state nor a state event")
        self.state_nid = state_nid
        self.missing = missing


class Row(NamedTuple):
    """One link of a chain, written down or derived from its event."""

    nid: int
    room_nid: int
    parent: int
    height: int
    reach: int
    """How many heights it reaches back to its parent."""
    keys: list[int]
    events: list[int]
    """0: the key is not set."""
    derived: bool


# An event that was rejected, or an outlier, has no state after it: flags 1 and 4.
_LINK: LiteralString = """
        LEFT JOIN state s ON s.state_nid = link.nid
        LEFT JOIN events e ON e.event_nid = link.nid AND s.state_nid IS NULL AND e.key_nid IS NOT NULL AND e.flags & 5 = 0
"""
_PAIRS: LiteralString = """
        coalesce(s.parent, e.state_nid) AS parent, coalesce(s.keys, ARRAY[e.key_nid]) AS keys,
        coalesce(s.events, ARRAY[e.event_nid]) AS events
"""


async def read_state(tx: Tx, state_nid: int) -> StateMap:
    """The whole state from its chain of deltas. Raises `BrokenState`."""
    rows = await tx.all(
        "WITH RECURSIVE chain AS (SELECT link.nid, 0 AS hop,"  # noqa: S608  # all of it stands in this file
        + _PAIRS
        + "FROM (VALUES (%(nid)s::bigint)) AS link (nid)"
        + _LINK
        + "UNION ALL SELECT link.nid, link.hop,"
        + _PAIRS
        + "FROM (SELECT parent AS nid, hop + 1 AS hop FROM chain WHERE parent <> 0) AS link"
        + _LINK
        + ") SELECT nid, parent, keys, events FROM chain ORDER BY hop DESC",
        nid=state_nid,
    )
    if rows[0][1] is None:
        raise BrokenState(state_nid, rows[0][0])
    state: StateMap = {}
    for _, _, keys, events in rows:
        state.update(zip(keys, events, strict=True))
    return {key: event for key, event in state.items() if event} if 0 in state.values() else state


async def read_values(tx: Tx, state_nids: list[int], key_nids: list[int]) -> dict[int, StateMap]:
    """For each state, the events of these keys; walks each chain."""
    rows = await tx.all(
        "WITH RECURSIVE chain AS (SELECT link.nid AS start, 0 AS hop,"  # noqa: S608  # likewise
        + _PAIRS
        + "FROM unnest(%(nids)s::bigint[]) AS link (nid)"
        + _LINK
        + "UNION ALL SELECT link.start, link.hop,"
        + _PAIRS
        + "FROM (SELECT start, parent AS nid, hop + 1 AS hop FROM chain WHERE parent <> 0) AS link"
        + _LINK
        + """)
        SELECT DISTINCT ON (start, pair.key) start, pair.key, pair.event
        FROM chain, unnest(keys, events) AS pair (key, event)
        WHERE keys && %(keys)s::int[] AND pair.key = ANY(%(keys)s::int[])
        ORDER BY start, pair.key, hop
        """,
        nids=state_nids,
        keys=key_nids,
    )
    result: dict[int, StateMap] = {nid: {} for nid in state_nids}
    for start, key, event in rows:
        if event:
            result[start][key] = event
    return result


async def read_heights(tx: Tx, state_nids: list[int]) -> dict[int, int]:
    """How long the chain of each state is: walks to the next row that says so."""
    rows = await tx.all(
        "WITH RECURSIVE chain AS (SELECT link.nid AS start, 1 AS hops, s.height, e.state_nid AS parent "  # noqa: S608
        "FROM unnest(%(nids)s::bigint[]) AS link (nid)"
        + _LINK
        + "UNION ALL SELECT link.start, link.hops, s.height, e.state_nid AS parent "
        "FROM (SELECT start, parent AS nid, hops + 1 AS hops FROM chain WHERE parent <> 0) AS link"
        + _LINK
        + ") SELECT DISTINCT ON (start) start, coalesce(height + hops - 1, hops) FROM chain ORDER BY start, hops DESC",
        nids=[nid for nid in state_nids if nid],
    )
    return dict(rows)


async def read_chain(tx: Tx, state_nid: int, height: int, *, floor: int = 0, limit: int = 2**30) -> list[Row]:
    """The links of a chain above a height, newest first, at most `limit`. Raises `BrokenState`."""
    columns: LiteralString = "coalesce(s.room_nid, e.room_nid) AS room_nid, coalesce(s.reach, 1) AS reach,"
    rows = await tx.all(
        "WITH RECURSIVE chain AS (SELECT link.nid, 0 AS hop, %(height)s::int AS height,"  # noqa: S608  # likewise
        " s.state_nid IS NULL AS derived,"
        + columns
        + _PAIRS
        + "FROM (VALUES (%(nid)s::bigint)) AS link (nid)"
        + _LINK
        + "UNION ALL SELECT link.nid, link.hop, link.height, s.state_nid IS NULL AS derived,"
        + columns
        + _PAIRS
        + """FROM (SELECT parent AS nid, hop + 1 AS hop, height - reach AS height FROM chain
                   WHERE parent <> 0 AND height - reach > %(floor)s AND hop < %(limit)s) AS link"""
        + _LINK
        + ") SELECT nid, room_nid, parent, height, reach, keys, events, derived FROM chain ORDER BY hop",
        nid=state_nid,
        height=height,
        floor=floor,
        limit=limit - 1,
    )
    if rows[-1][2] is None:
        raise BrokenState(state_nid, rows[-1][0])
    return [Row(*row) for row in rows]


async def write_shortcut(tx: Tx, row: Row) -> None:
    """Let a row reach further back; the same state."""
    await tx.execute(
        """
        INSERT INTO state (state_nid, room_nid, parent, height, reach, keys, events)
        VALUES (%(nid)s, %(room)s, %(parent)s, %(height)s, %(reach)s, %(keys)s::int[], %(events)s::bigint[])
        ON CONFLICT (state_nid) DO UPDATE
            SET parent = excluded.parent, reach = excluded.reach, keys = excluded.keys, events = excluded.events
        """,
        nid=row.nid,
        room=row.room_nid,
        parent=row.parent,
        height=row.height,
        reach=row.reach,
        keys=row.keys,
        events=row.events,
    )


async def lock_upkeep(tx: Tx) -> None:
    """Wait to be the only one who rewrites or deletes rows of states, until the transaction ends."""
    await tx.one("SELECT pg_advisory_xact_lock(%(lock)s::bigint)", lock=UPKEEP_LOCK)


def folded(rows: Sequence[Row]) -> Row:
    """One row for several links of a chain, newest first: the first's state, on the last's parent."""
    first, last = rows[0], rows[-1]
    delta: StateMap = {}
    for row in reversed(rows):
        delta.update(zip(row.keys, row.events, strict=True))
    if last.parent == 0:
        delta = {key: event for key, event in delta.items() if event}
    reach = first.height - last.height + last.reach
    return first._replace(
        parent=last.parent, reach=reach, keys=list(delta), events=list(delta.values()), derived=False
    )


def reach_of(height: int) -> int:
    """How far back the row at this height shall reach: the greatest power of `STEP` that divides it."""
    reach = 1
    while height and height % (reach * STEP) == 0:
        reach *= STEP
    return reach


def max_hops(height: int) -> int:
    """In how many hops a state of this height is read at most, once its chain has all its shortcuts.

    Each hop takes one from the last digit of the height, written to the base `STEP`, that is not 0.
    """
    digits = 1
    while height >= STEP**digits:
        digits += 1
    return (STEP - 1) * digits


def is_round(heights: Iterable[int]) -> bool:
    """Whether any of the heights wants a shortcut."""
    return any(height and height % STEP == 0 for height in heights)
