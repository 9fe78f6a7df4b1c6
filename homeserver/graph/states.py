"""State at any event: a chain of deltas, read in few hops because rows at round heights reach further back.

A state never changes once written, so what is read may be cached. Row `h` says what differs from its parent, by default the
state one event before; `merge` lets the row at a height divisible by 16^k reach back 16^k heights instead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

STEP = 16
CACHE_ENTRIES = 500_000
"""Key -> event pairs kept in memory over all states."""

StateMap = dict[int, int]
"""key_nid -> event_nid of everything that is set."""


class StateStore:
    """One per process."""

    def __init__(self, db: Database, *, limit: int = CACHE_ENTRIES) -> None:
        self._db = db
        self._limit = limit
        self._size = 0
        self._states: OrderedDict[int, StateMap] = OrderedDict()

    async def load(self, state_nid: int) -> StateMap:
        """The whole state; read-only for the caller."""
        if state_nid == 0:
            return {}
        cached = self._states.get(state_nid)
        if cached is not None:
            self._states.move_to_end(state_nid)
            return cached
        async with self._db.read() as tx:
            state = await read_state(tx, state_nid)
        self._remember(state_nid, state)
        return state

    async def heights(self, state_nids: Collection[int]) -> dict[int, int]:
        """How long the chain of each state is; 0 for the empty state."""
        async with self._db.read() as tx:
            rows = await tx.all(
                "SELECT state_nid, height FROM state WHERE state_nid = ANY(%(nids)s::bigint[])",
                nids=list(state_nids),
            )
        return dict.fromkeys(state_nids, 0) | dict(rows)

    async def values(self, state_nids: Collection[int], key_nids: Collection[int]) -> dict[int, StateMap]:
        """For each state, the events of just these keys (absent: not set). One query for all states."""
        result = {nid: _pick(self._states[nid], key_nids) for nid in state_nids if nid in self._states}
        missing = [nid for nid in set(state_nids) if nid not in result and nid != 0]
        if missing:
            async with self._db.read() as tx:
                result.update(await read_values(tx, missing, list(key_nids)))
        return {nid: result.get(nid, {}) for nid in state_nids}

    def _remember(self, state_nid: int, state: StateMap) -> None:
        self._states[state_nid] = state
        self._size += len(state)
        while self._size > self._limit and len(self._states) > 1:
            _, oldest = self._states.popitem(last=False)
            self._size -= len(oldest)


def _pick(state: StateMap, key_nids: Collection[int]) -> StateMap:
    return {key: state[key] for key in key_nids if key in state}


async def read_state(tx: Tx, state_nid: int) -> StateMap:
    """The whole state from its chain of deltas."""
    rows = await tx.all(
        """
        WITH RECURSIVE chain AS (
            SELECT state_nid, parent, keys, events, 0 AS hop FROM state WHERE state_nid = %(nid)s
            UNION ALL
            SELECT s.state_nid, s.parent, s.keys, s.events, c.hop + 1
            FROM chain c JOIN state s ON s.state_nid = c.parent
        )
        SELECT keys, events FROM chain ORDER BY hop DESC
        """,
        nid=state_nid,
    )
    state: StateMap = {}
    for keys, events in rows:
        state.update(zip(keys, events, strict=True))
    return {key: event for key, event in state.items() if event}


async def read_values(tx: Tx, state_nids: list[int], key_nids: list[int]) -> dict[int, StateMap]:
    """For each state, the events of these keys; walks each chain until all are found."""
    rows = await tx.all(
        """
        WITH RECURSIVE chain AS (
            SELECT state_nid AS start, parent, keys, events, 0 AS hop FROM state WHERE state_nid = ANY(%(nids)s::bigint[])
            UNION ALL
            SELECT c.start, s.parent, s.keys, s.events, c.hop + 1
            FROM chain c JOIN state s ON s.state_nid = c.parent
        )
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


def reach_of(height: int) -> int:
    """How far back the row at this height shall reach once merged: the greatest power of 16 that divides it."""
    reach = 1
    while height and height % (reach * STEP) == 0:
        reach *= STEP
    return reach


async def merge(tx: Tx, state_nid: int, height: int) -> bool:
    """Let one row reach back `reach_of(height)`: the same state in fewer hops. False if there is nothing to do.

    Safe to repeat and to interrupt: the row means the same before and after.
    """
    reach = reach_of(height)
    if reach == 1:
        return False
    rows = await tx.all(
        """
        WITH RECURSIVE chain AS (
            SELECT state_nid, parent, height, keys, events, 0 AS hop FROM state WHERE state_nid = %(nid)s
            UNION ALL
            SELECT s.state_nid, s.parent, s.height, s.keys, s.events, c.hop + 1
            FROM chain c JOIN state s ON s.state_nid = c.parent WHERE s.height > %(floor)s
        )
        SELECT parent, keys, events FROM chain ORDER BY hop DESC
        """,
        nid=state_nid,
        floor=height - reach,
    )
    if len(rows) < 2:
        return False
    delta: StateMap = {}
    for _, keys, events in rows:
        delta.update(zip(keys, events, strict=True))
    await tx.execute(
        """
        UPDATE state SET parent = %(parent)s, keys = %(keys)s::int[], events = %(events)s::bigint[]
        WHERE state_nid = %(nid)s
        """,
        nid=state_nid,
        parent=rows[0][0],
        keys=list(delta),
        events=list(delta.values()),
    )
    return True
