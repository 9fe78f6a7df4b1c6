"""Lets states at round heights reach further back, behind the writers: the same states, read in fewer hops.

What is not done (a process ended first) is read in more hops until `upkeep` comes by the room.
"""

from __future__ import annotations

import asyncio
from collections import deque

import psycopg
import structlog

from homeserver.graph.entry import EventEntry, touches_state
from homeserver.graph.refs import OUTLIER, REJECTED
from homeserver.graph.state.rows import (
    folded,
    is_round,
    lock_upkeep,
    max_hops,
    reach_of,
    read_chain,
    read_heights,
    write_shortcut,
)
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Tx

log = structlog.get_logger(__name__)

MAX_QUEUED = 10_000
AT_ONCE = 5_000
"""Links of a chain that are looked at together."""


class Compaction:
    """A projection that notes which states are due, and `drain`, which gives them their shortcuts."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._due: deque[tuple[int, int]] = deque(maxlen=MAX_QUEUED)
        self.wake = asyncio.Event()
        """Something is due."""

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._event, touches_state)}

    def reset(self) -> None:
        """States that were missed are found by the upkeep of rooms."""

    def _event(self, _: Position, entry: EventEntry) -> None:
        persisted, made = entry.persisted, {state.nid: state.height for state in entry.new_states}
        if entry.key_nid is not None and not persisted.flags & (REJECTED | OUTLIER):
            made[persisted.nid] = persisted.state_before.height + 1
        if entry.changes:  # an event from another process: what it was built on is known by number alone
            made[entry.room_state.nid] = entry.room_state.height
        if is_round(made.values()):
            self._due.extend((nid, height) for nid, height in made.items() if is_round([height]))
            self.wake.set()

    async def drain(self) -> None:
        """Do all that is due now. Raises what stops all of it, as a database that is away; nothing is lost then."""
        while self._due:
            state_nid, height = self._due.popleft()
            try:
                async with self._db.transaction() as tx:
                    await lock_upkeep(tx)
                    await merge(tx, state_nid, height)
            except (psycopg.OperationalError, StorageError):
                self._due.appendleft((state_nid, height))
                raise
            except Exception:  # of this state alone: the upkeep of rooms looks at it again
                log.exception("compaction.failed", state_nid=state_nid)


async def merge(tx: Tx, state_nid: int, height: int) -> bool:
    """Let one state reach back `reach_of(height)`. False if there is nothing to do. Needs `lock_upkeep`.

    Safe to repeat and to interrupt: the state is the same before and after.
    """
    reach = reach_of(height)
    if reach == 1:
        return False
    chain = await read_chain(tx, state_nid, height, floor=height - reach)
    if len(chain) == 1:
        return False
    await write_shortcut(tx, folded(chain))
    return True


async def shorten(db: Database, state_nid: int) -> int:
    """Give the chain of a state the shortcuts it lacks; how many that were.

    A chain that is as short as it shall be costs two reads. Raises `BrokenState`.
    """
    made = 0
    while True:
        async with db.read() as tx:
            height = (await read_heights(tx, [state_nid])).get(state_nid, 0)
            chain = await read_chain(tx, state_nid, height, limit=AT_ONCE) if height else []
        if len(chain) <= max_hops(height):
            return made
        before = made
        for row in reversed(chain):  # the lowest first: those above it are then read in few hops
            if row.reach < reach_of(row.height):
                async with db.transaction() as tx:
                    await lock_upkeep(tx)
                    made += await merge(tx, row.nid, row.height)
        if made == before:
            return made
