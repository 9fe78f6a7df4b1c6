"""What a gateway lacks that was away: the newest events that may notify the user and that they have not read meanwhile.

Not all: a phone that was away for a night wants to know where it stands, not to ring a thousand times. Whatever is left out,
the count that goes with the last one is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import INVITE
from homeserver.log.entries import Position
from homeserver.log.readers.types import Behind, Item, Slice
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.pushers.interest import parse_key
from homeserver.receipts.types import UNTHREADED
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.sync.types import Ignores

NEAR: Final = 5_000
"""Positions of the log that are looked through rather than searched, for a gateway that answers."""
NEWEST: Final = 20
"""Events of which a device is told that could not be reached."""
LONGEST_MS: Final = 24 * 3_600_000
"""Age of an event from which on nobody is told of it any more: of what is unread all the same."""


class Caught(NamedTuple):
    """Stands for everything up to a position: the count is to be told."""

    user_nid: int


class Resume:
    """Fulfils `Reader.resume`. Keeps nothing."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        events: EventCache,
        interning: Interning,
        memberships: Memberships,
        ignores: Ignores,
        clock: Clock,
    ) -> None:
        self._db = db
        self._events = events
        self._interning = interning
        self._memberships = memberships
        self._ignores = ignores
        self._clock = clock

    async def of(self, behind: Behind) -> Slice | None:
        """See `Reader.resume`. Four queries."""
        if not behind.failures and behind.upto - behind.after <= NEAR:
            return None
        user_nid, _ = parse_key(behind.key)
        rooms = await self._memberships.of(user_nid)
        unwanted = await self._ignores.of(user_nid)
        ignored = await self._interning.find_user_nids([UserId(each) for each in unwanted.ignored])
        joined = list(rooms.joined)
        async with self._db.read() as tx:
            async with tx.pipeline() as batch:
                joins = store.find_joins(batch, user_nid, joined)
                receipts = store.find_read(batch, user_nid, joined)
            read = {(room, thread): at for room, thread, at in receipts.result}
            after = {
                room: max(at, behind.after, read.get((room, UNTHREADED), 0)) for room, at in joins.result
            }
            query = store.UnreadQuery(user_nid, list(ignored.values()), behind.upto, after, {})
            found = await store.find_before(tx, query, behind.upto + 1, NEWEST)
            nids = [
                each.event_nid for each in found if each.event_nid > read.get((each.room_nid, each.thread), 0)
            ]
            nids += [
                own.event_nid
                for own in rooms.rooms.values()
                if own.membership == INVITE and behind.after < own.event_nid <= behind.upto
            ]
            events = await self._events.load_in(tx, nids)
        return Slice(self._items(events.values(), user_nid, behind.upto), behind.upto)

    def _items(self, events: Any, user_nid: int, upto: Position) -> Sequence[Item[Any]]:
        oldest = self._clock.now_ms() - LONGEST_MS
        items: list[Item[Any]] = [
            Item(each.nid, each) for each in events if each.event.origin_server_ts >= oldest
        ]
        items.sort(key=lambda item: item.position)
        return [*items[-NEWEST:], Item(upto, Caught(user_nid))]
