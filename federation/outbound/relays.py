"""Events that others have made and this server has to pass on: as an entry of the log, so that none is lost.

Whoever is asked by `/send_join`, `/send_knock` or `/send_leave` tells the other servers in the room.
spec: server-server-api/#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from typing_extensions import override

from federation.outbound import store
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.readers.types import Item, Slice
from homeserver.log.writer import LogWriter
from homeserver.storage.tx import Pipeline, Tx

MAX_SERVERS = 100
"""Servers that are named for one event, beside those in the room."""


class RelayEntry(Entry, frozen=True):
    """An event is to be told to other servers although no user of ours has sent it."""

    event_nid: int
    servers: tuple[str, ...] = ()
    """Who is told of it beside the servers in the room before it; its sender's own is told in no case. Of an event of ours: who is
    told of it once more, alone."""


class RelaySink(StructSink[RelayEntry]):
    """Into `federation_relays`."""

    kind = "federation.relay"
    entry_type = RelayEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[RelayEntry]]) -> None:
        store.insert_relays(batch, [(at, entry.event_nid, list(entry.servers)) for at, entry in written])


class RelaySource:
    """Relays for the sender."""

    entry_type = RelayEntry

    def take(self, entry: RelayEntry) -> RelayEntry:
        """See `Source.take`."""
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        rows = await store.find_relays(tx, after, upto, limit)
        items = [Item(at, RelayEntry(nid, tuple(servers))) for at, nid, servers in rows]
        return Slice(items, rows[-1][0] if len(rows) == limit else upto)


class Relays:
    """Passes events on."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log

    async def relay(self, persisted: PersistedEvent, servers: Collection[str] = ()) -> None:
        """Tell an event that another server has made to the servers that were in the room before it, and to `servers` (at
        most `MAX_SERVERS`), but not to its sender's. Returns when this is sure to be done, also after a crash.
        """
        await self._log.append(RelayEntry(persisted.nid, tuple(sorted(servers)[:MAX_SERVERS])))
