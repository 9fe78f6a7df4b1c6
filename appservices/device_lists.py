"""Who has begun to share an encrypted room with a service's users, and who shares none any more: what `device_lists` of a
transaction says besides keys that have changed.

Told by the memberships in the transaction and by how things are when it is written; so who has left and come back meanwhile
has not left.

spec: MSC3202 `device_lists`, client-server-api/#tracking-the-device-list-for-a-user (E2E-11, E2E-12)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from appservices import store
from appservices.types import Service
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database

ENCRYPTION: Final = ("m.room.encryption", "")
MEMBER: Final = "m.room.member"
MAX_PEOPLE: Final = 2_000
"""Of whom a transaction tells because a user of the service has entered or left their rooms; of others it tells nothing."""
MAX_SHARED: Final = 20_000
"""Encrypted rooms of all these people that are looked at; where there are more, nobody is said to have left."""
MAX_ROOMS: Final = 1_000
"""Different ones among them that are looked at for users of the service."""


class Shared(NamedTuple):
    """Whose devices a service has to look at anew, and whose no longer."""

    changed: Collection[str]
    left: Collection[str]


NOTHING: Final = Shared((), ())


class ServiceUsers(Protocol):
    """Which users of a service are in a room now; fulfilled by `Interest`."""

    async def users_in(self, service: Service, room_nid: int) -> Collection[int]: ...


class _Moves(NamedTuple):
    """Who has come into a room (True) or is in it no more (False), by user id."""

    theirs: dict[str, bool]
    ours: dict[str, bool]
    """Users of the service."""


class DeviceListChanges:
    """Works it out for each transaction. Keeps nothing."""

    def __init__(self, db: Database, interning: Interning, users: ServiceUsers) -> None:
        self._db = db
        self._interning = interning
        self._users = users

    async def of(self, service: Service, events: Iterable[PersistedEvent]) -> Shared:
        """What these events of a transaction have changed. Without memberships that begin or end nothing is asked; else two
        queries, one more where users of the service have moved.
        """
        moves = _moves(service, events)
        if not moves:
            return NOTHING
        key_nid = (await self._interning.find_key_nids([ENCRYPTION])).get(ENCRYPTION)
        if key_nid is None:
            return NOTHING
        async with self._db.read() as tx:
            encrypted = await store.list_encrypted(tx, list(moves), key_nid)
        gained, lost = await self._people(service, {nid: moves[nid] for nid in encrypted})
        if not gained and not lost:
            return NOTHING
        sharing = await self._sharing(service, gained | lost, key_nid)
        if sharing is None:
            return Shared(await self._names(gained), ())
        return Shared(await self._names(gained & sharing), await self._names(lost - sharing))

    async def _people(self, service: Service, moves: dict[int, _Moves]) -> tuple[set[int], set[int]]:
        """user_nids of those who may share a room with the service now and did not, and the other way round."""
        nids = await self._interning.find_user_nids(
            {UserId(user) for each in moves.values() for user in (*each.theirs, *each.ours)}
        )
        gained: set[int] = set()
        lost: set[int] = set()
        whole: dict[int, bool] = {}
        for room_nid, each in moves.items():
            for user, joins in each.theirs.items():
                (gained if joins else lost).add(nids[UserId(user)])
            movers = {nids[UserId(user)] for user in each.ours}
            if movers and movers.issuperset(await self._users.users_in(service, room_nid)):
                whole[room_nid] = any(each.ours.values())  # the first of the service's users, or the last
        if whole:
            async with self._db.read() as tx:
                rows = await store.list_joined(tx, list(whole), MAX_PEOPLE)
            own = await self._own(service, {user for _, user in rows})
            for room_nid, nid in rows:
                if nid not in own:
                    (gained if whole[room_nid] else lost).add(nid)
        return gained, lost

    async def _own(self, service: Service, user_nids: Collection[int]) -> set[int]:
        names = await self._interning.user_ids(user_nids)
        return {nid for nid, name in names.items() if service.watches(name)}

    async def _sharing(self, service: Service, people: Collection[int], key_nid: int) -> set[int] | None:
        """Who of some people shares an encrypted room with users of a service now; None: there is too much to look at."""
        async with self._db.read() as tx:
            rows = await store.list_encrypted_rooms_of(tx, list(people), key_nid, MAX_SHARED)
        if len(rows) == MAX_SHARED or len({room for _, room in rows}) > MAX_ROOMS:
            return None
        found: set[int] = set()
        for nid, room in rows:
            if nid not in found and await self._users.users_in(service, room):
                found.add(nid)
        return found

    async def _names(self, user_nids: Collection[int]) -> Sequence[str]:
        return sorted((await self._interning.user_ids(user_nids)).values()) if user_nids else ()


def _moves(service: Service, events: Iterable[PersistedEvent]) -> dict[int, _Moves]:
    """By room_nid; of each user the last move."""
    found: dict[int, _Moves] = {}
    for persisted in events:
        event = persisted.event
        if event.type != MEMBER or event.state_key is None or persisted.hidden:
            continue
        before = persisted.replaced
        was = before is not None and json.loads(before.content).get("membership") == "join"
        joins = event.membership == "join"
        if was == joins:
            continue
        moves = found.setdefault(persisted.room_nid, _Moves({}, {}))
        (moves.ours if service.watches(event.state_key) else moves.theirs)[event.state_key] = joins
    return found
