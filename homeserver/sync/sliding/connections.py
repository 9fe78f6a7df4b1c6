"""Connections of sliding sync: in memory where they are used, and in the database for other processes and restarts.

spec: MSC4186, "Connections"
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from homeserver.devices.types import DeviceChange
from homeserver.log.entries import Entry, Written
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.sync.sliding import store
from homeserver.sync.sliding.connection import EMPTY, Pos, State, UnknownPos, decode, encode
from homeserver.sync.sliding.store import Key

SHARE: Final = 1.0
ROOM_BYTES, STATE_BYTES = 250, 1_000
"""What a state takes in memory, and each room in it."""
MAX_STATES: Final = 4
"""Of one connection: that which the client has come back with, and those it was given since."""
MAX_CONNECTIONS: Final = 16
"""Of one device; the one that was told of other rooms longest ago makes room."""
MAX_ROOMS: Final = 20_000
"""That one connection may be told of; the client begins again then."""
KEPT_MS: Final = 30 * 24 * 3600 * 1000
REWRITTEN_MS: Final = 24 * 3600 * 1000
"""After this time the same state is written anew, so that one in use is not taken for one that was left."""
DELETED_AT_ONCE: Final = 1_000


class Connections:
    """What each connection has been told; a bounded cache before a table whose loss costs clients a new beginning."""

    def __init__(self, db: Database, memory: MemoryBudget, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._states: Cache[Key, OrderedDict[int, State]] = memory.cache("sliding_sync", SHARE)

    async def find(self, key: Key, pos: Pos | None) -> State:
        """What the connection has been told when the client was given `pos`; what it was given before is forgotten.

        Raises `UnknownPos`. None: a new connection begins, the one of the same name ends.
        """
        if pos is None:
            self._states.pop(key)
            return EMPTY
        states = self._states.get(key)
        state = states.get(pos.version) if states is not None else None
        if state is None or states is None:
            async with self._db.read() as tx:
                row = await store.find_state(tx, key, pos.version)
            if row is None:
                raise UnknownPos("pos: this connection has expired")
            state = decode(*row)
            states = self._states.get(key) or OrderedDict()
            states[pos.version] = state
        elif next(iter(states)) == pos.version:
            return state
        while next(iter(states)) != pos.version:
            states.popitem(last=False)
        self._keep(key, states)
        return state

    async def next(self, key: Key, before: Pos | None, state: State, known: State) -> int:
        """The version of what the connection will have been told: that of `before`, which is `known`, where it is the same."""
        now_ms = self._clock.now_ms()
        old = now_ms - known.written_ms > REWRITTEN_MS
        if before is not None and state is known and not old:
            return before.version
        if len(state.rooms) > MAX_ROOMS:
            raise UnknownPos("This connection has been told of too many rooms")
        version = int.from_bytes(self._entropy.bytes(8)) >> 1
        state = state._replace(written_ms=now_ms)
        states = self._states.get(key) or OrderedDict()
        if before is not None and before.version not in states:
            states[before.version] = known
        states[version] = state
        while len(states) > MAX_STATES:  # never the first one: the client has it
            del states[list(states)[1]]
        async with self._db.transaction() as tx, tx.pipeline() as batch:
            store.delete_other_states(batch, key, list(states))
            store.insert_state(batch, key, version, now_ms, encode(state))
            if before is None:
                store.delete_old_connections(batch, key, MAX_CONNECTIONS)
        self._keep(key, states)
        return version

    def _keep(self, key: Key, states: OrderedDict[int, State]) -> None:
        rooms = sum(len(state.rooms) for state in states.values())
        self._states.put(key, states, len(states) * STATE_BYTES + rooms * ROOM_BYTES)

    async def clean(self) -> None:
        """Once: states nobody has come back to."""
        while True:
            async with self._db.transaction() as tx:
                gone = await store.delete_expired(tx, self._clock.now_ms() - KEPT_MS, DELETED_AT_ONCE)
            if gone < DELETED_AT_ONCE:
                return

    # --- devices ---------------------------------------------------------------------------------------------------

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """Their connections end."""
        del written
        store.delete_of_devices(batch, change.user_nid, change.device_ids)

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]:
        del change
        return ()

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """Of no concern."""

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]:
        del change
        return ()
