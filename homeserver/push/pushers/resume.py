"""What gateways lack that were away: the newest events that may notify the user and that they have not read meanwhile.

Not all: a phone that was away for a night wants to know where it stands, not to ring a thousand times. Whatever is left out,
the count that goes with the last one is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from homeserver.account_data.ignores import Ignores
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE
from homeserver.log.readers.types import Behind, Item, Slice
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.pushers.interest import parse_key
from homeserver.receipts.types import UNTHREADED
from homeserver.rooms.memberships import Memberships, UserRooms
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

NEAR: Final = 200
"""Positions of the log that are looked through rather than searched, for a gateway that answers and is alone in that."""
NEWEST: Final = 20
"""Events of which a device is told that could not be reached."""
MAX_ROOMS: Final = 2_000
MAX_IGNORED: Final = 200
"""Of all users together who are searched for at once; of one alone there may be more."""
LONGEST_MS: Final = 24 * 3_600_000
"""Age of an event from which on nobody is told of it any more: of what is unread all the same."""


class Caught(NamedTuple):
    """Stands for everything up to a position: the count is to be told."""

    user_nid: int


class _Lacking(NamedTuple):
    """A cursor that is searched for."""

    behind: Behind
    user_nid: int
    rooms: UserRooms
    ignored: frozenset[str]


class Resume:
    """Fulfils `Reader.resume` and `Reader.resume_together`. Keeps nothing."""

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
        """See `Reader.resume`."""
        if not behind.failures and behind.upto - behind.after <= NEAR:
            return None
        return (await self.of_many([behind]))[0]

    async def of_many(self, behinds: Sequence[Behind]) -> Sequence[Slice]:
        """See `Reader.resume_together`. Four queries for all, and those for what is not in memory of users and ignored ones."""
        lacking = await self._together(behinds)
        names = {UserId(each) for one in lacking for each in one.ignored}
        ignored = await self._interning.find_user_nids(names) if names else {}
        async with self._db.read() as tx:
            found = await self._search(tx, lacking, ignored)
            events = await self._events.load_in(tx, set().union(*found))
        return [
            self._slice(each, [events[nid] for nid in nids if nid in events])
            for each, nids in zip(lacking, found, strict=True)
        ]

    async def _together(self, behinds: Sequence[Behind]) -> list[_Lacking]:
        """The first of them, as many as are searched for at once."""
        user_nids = [parse_key(each.key)[0] for each in behinds]
        await self._memberships.prepare(user_nids)
        await self._ignores.prepare(user_nids)
        lacking: list[_Lacking] = []
        rooms = ignored = 0
        for behind, user_nid in zip(behinds, user_nids, strict=True):
            one = _Lacking(
                behind,
                user_nid,
                await self._memberships.of(user_nid),
                (await self._ignores.of(user_nid)).ignored,
            )
            rooms, ignored = rooms + len(one.rooms.joined), ignored + len(one.ignored)
            if lacking and (rooms > MAX_ROOMS or ignored > MAX_IGNORED):
                break
            lacking.append(one)
        return lacking

    async def _search(
        self, tx: Tx, lacking: Sequence[_Lacking], ignored: dict[UserId, int]
    ) -> list[Iterable[int]]:
        """Of each the numbers of the events it is to be told of, and perhaps of some more."""
        pairs = list({store.Pair(each.user_nid, room) for each in lacking for room in each.rooms.joined})
        async with tx.pipeline() as batch:
            joins, receipts = store.find_joins_of(batch, pairs), store.find_read_of(batch, pairs)
        read = {(user, room, thread): at for user, room, thread, at in receipts.result}
        joined = {
            store.Pair(user, room): max(at, read.get((user, room, UNTHREADED), 0))
            for user, room, at in joins.result
        }
        ranges = [
            store.Range(number, pair, max(joined[pair], each.behind.after), each.behind.upto)
            for number, each in enumerate(lacking)
            for room in each.rooms.joined
            if (pair := store.Pair(each.user_nid, room)) in joined
        ]
        ignoring = [
            (each.user_nid, ignored[UserId(name)])
            for each in {one.user_nid: one for one in lacking}.values()
            for name in each.ignored
            if name in ignored
        ]
        found: list[set[int]] = [
            {
                own.event_nid
                for own in each.rooms.rooms.values()
                if own.membership == INVITE and each.behind.after < own.event_nid <= each.behind.upto
            }
            for each in lacking
        ]
        for number, event_nid, room, thread in await store.find_newest_of(tx, ranges, ignoring, NEWEST):
            if event_nid > read.get((lacking[number].user_nid, room, thread), 0):
                found[number].add(event_nid)
        return [sorted(nids)[-NEWEST:] for nids in found]

    def _slice(self, lacking: _Lacking, events: Iterable[PersistedEvent]) -> Slice:
        oldest, upto = self._clock.now_ms() - LONGEST_MS, lacking.behind.upto
        items: list[Item[Any]] = [
            Item(each.nid, each) for each in events if each.event.origin_server_ts >= oldest
        ]
        return Slice([*items, Item(upto, Caught(lacking.user_nid))], upto)
