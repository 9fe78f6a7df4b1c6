"""What an administrator sees of destinations and can do to them: `atrium federation status`. Works beside a running server."""

from __future__ import annotations

from dataclasses import dataclass

from federation.outbound import store
from federation.outbound.store import MAX_BACKLOG, READER, StatusRow
from homeserver.log.readers import commands as readers
from homeserver.matrix.ids import ServerName
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

MAX_COUNTED = 100
"""Destinations whose backlog is counted in one listing; it is not known of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """A server that was ever sent to."""

    destination: ServerName
    backlog: int | None
    """Events of ours that it has not acknowledged, `MAX_BACKLOG` if more; None: not counted."""
    failures: int
    """In a row; 0: the last transaction was acknowledged."""
    retry_in: float
    """Seconds until it is tried again, as far as the sender waits; 0: now, or there is nothing to send."""
    last_success_ms: int
    """Unix ms, to the minute; 0: never."""
    last_failure_ms: int
    last_error: str
    """Of the last failure, which may be over; fit to be shown."""


async def overview(
    db: Database, server_name: ServerName, *, destination: str | None = None, most: int = 100
) -> list[DestinationStatus]:
    """Destinations, those that fail first, at most `most`; or one of them. `server_name`: our own."""
    async with db.read() as tx:
        rows = await store.list_destinations(tx, destination, most)
        found = []
        for number, row in enumerate(rows):
            counted = number < MAX_COUNTED
            found.append(_status(row, await _backlog(tx, row, server_name) if counted else None))
    return found


async def reset(db: Database, destination: ServerName) -> bool:
    """Have a destination tried again now, whatever it did before. False: it is not failing.

    The pause that `federation.transport` keeps is another matter: end that first.
    """
    return await readers.retry(db, READER, destination) > 0


async def _backlog(tx: Tx, row: StatusRow, server_name: ServerName) -> int:
    if row.position is None or row.position >= row.head:
        return 0
    rooms = await store.find_shared_rooms(tx, row.destination)
    bounds = (row.position, row.head)
    return len(await store.find_own_events(tx, rooms, bounds, server_name, MAX_BACKLOG))


def _status(row: StatusRow, backlog: int | None) -> DestinationStatus:
    return DestinationStatus(
        destination=ServerName(row.destination),
        backlog=backlog,
        failures=row.failures,
        retry_in=max(row.wait, 0.0) if row.failures else 0.0,
        last_success_ms=row.success_ms,
        last_failure_ms=row.failure_ms,
        last_error=row.error,
    )
