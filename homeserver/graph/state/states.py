"""State at any event, with a cache. How states are written down is `state_rows`; what keeps them short is `compaction`.

A state never changes once written, so what is read may be cached.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from homeserver.graph.state.rows import StateMap, read_heights, read_state, read_values
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

__all__ = ["Difference", "StateMap", "StateStore", "difference"]

SHARE = 3.0
STATE_BYTES, ENTRY_BYTES = 300, 100
"""What a state in memory takes, and each key -> event pair in it."""


class Difference(NamedTuple):
    """What a key is in one state and in another; 0: not set."""

    before: int
    after: int


class StateStore:
    """Reads states and keeps the last ones in a bounded cache."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._states: Cache[int, StateMap] = memory.cache("states", SHARE)

    async def load(self, state_nid: int) -> StateMap:
        """The whole state; read-only for the caller. Raises `BrokenState`."""
        if state_nid == 0:
            return {}
        cached = self._states.get(state_nid)
        if cached is not None:
            return cached
        async with self._db.read() as tx:
            state = await read_state(tx, state_nid)
        self._states.put(state_nid, state, STATE_BYTES + ENTRY_BYTES * len(state))
        return state

    async def heights(self, state_nids: Collection[int]) -> dict[int, int]:
        """How long the chain of each state is; 0 for the empty state."""
        async with self._db.read() as tx:
            return dict.fromkeys(state_nids, 0) | await read_heights(tx, list(state_nids))

    async def values(self, state_nids: Collection[int], key_nids: Collection[int]) -> dict[int, StateMap]:
        """For each state, the events of just these keys (absent: not set). One query for all states."""
        result = {
            nid: _pick(state, key_nids) for nid in state_nids if (state := self._states.get(nid)) is not None
        }
        missing = [nid for nid in set(state_nids) if nid not in result and nid != 0]
        if missing:
            async with self._db.read() as tx:
                result.update(await read_values(tx, missing, list(key_nids)))
        return {nid: result.get(nid, {}) for nid in state_nids}

    async def difference(self, before: int, after: int) -> dict[int, Difference]:
        """Key -> what it is in either state, of the keys that differ. Raises `BrokenState`."""
        return difference(await self.load(before), await self.load(after))


def difference(before: Mapping[int, int], after: Mapping[int, int]) -> dict[int, Difference]:
    """Key -> what it is in either state, of the keys that differ."""
    keys = {key for key, _ in before.items() ^ after.items()}
    return {key: Difference(before.get(key, 0), after.get(key, 0)) for key in keys}


def _pick(state: StateMap, key_nids: Collection[int]) -> StateMap:
    return {key: state[key] for key in key_nids if key in state}
