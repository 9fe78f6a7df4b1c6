"""Whom an entry of the log makes notify: a projection, so that what concerns no pusher costs a look into memory.

A cursor is one user at one gateway: `key_of`. Rules that facts answer are asked here already (see `push.evaluator`): of a
thousand users in a room who have silenced it, none has a delivery. In a room, only users who have pushers are looked at.

spec: client-server-api/#push-notifications (PUSH-01)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from homeserver.graph.entry import EventEntry, touches_state
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Entry, Position
from homeserver.log.readers.types import Item
from homeserver.log.remembered import Remembered
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix.ids import UserId
from homeserver.push.evaluator import Evaluator
from homeserver.push.evaluators import Evaluators
from homeserver.push.pushers import store
from homeserver.push.pushers.sources import HasRead
from homeserver.push.pushers.types import MAILTO, Pusher, PushersChanged
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database

SHARE: Final = 0.3
ROOM_BYTES, USER_BYTES, PUSHER_BYTES = 300, 40, 1_000
AT_ONCE: Final = 500
"""Users looked at between two turns, and whose rules are loaded by one query."""
NOBODY: Final[Collection[str]] = ()
Keys = Collection[str]


class Owner(NamedTuple):
    """A user who has enabled pushers."""

    user_id: UserId
    gateways: tuple[str, ...]
    """Keys, one per gateway."""
    addresses: tuple[str, ...] = ()
    """Keys, one per e-mail address that is told of what is unread."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.gateways + self.addresses


class Plans(Protocol):
    """Letters about what is unread that will be written."""

    def awaits(self, key: str) -> bool:
        """Whether one to the address behind a key is planned that will tell of what is new."""
        ...

    def changed(self, user_nid: int) -> None:
        """A user has set or ended pushers."""
        ...


def key_of(user_nid: int, url: str) -> str:
    """The cursor of a user at a gateway, or at an address (`mailto:`)."""
    return f"{user_nid} {url}"


def parse_key(key: str) -> tuple[int, str]:
    """(user_nid, the gateway's URL)."""
    user_nid, _, url = key.partition(" ")
    return int(user_nid), url


class Interest:
    """Fulfils `Reader.interest`. Who has pushers is in memory once it is asked; their pushers are in a bounded cache."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        evaluators: Evaluators,
        memory: MemoryBudget,
        shows: Callable[[str], bool],
        letters: Plans,
    ) -> None:
        """`shows`: whether the device behind a key may show that something is unread."""
        self._db = db
        self._all_rooms = rooms
        self._evaluators = evaluators
        self._shows = shows
        self._letters = letters
        self._rooms: Cache[int, frozenset[int]] = memory.cache("pusher_rooms", SHARE)
        self._pushers: Remembered[int, tuple[Pusher, ...]] = Remembered(memory.cache("pushers", SHARE))
        self._owners: dict[int, Owner] | None = None
        """None: not asked yet. Some 300 bytes per user who has pushers."""
        self._nids: dict[str, int] = {}
        self._dirty: set[int] = set()
        """Users who have set or ended pushers since."""
        self._version = 0
        self._loading = asyncio.Lock()

    # --- the projection ----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._event, touches_state), PushersChanged: self._changed}

    def reset(self) -> None:
        """Entries were missed."""
        self._version += 1
        self._owners = None
        self._nids.clear()
        self._dirty.clear()
        self._rooms.clear()
        self._pushers.reset()

    def _event(self, _: Position, entry: EventEntry) -> None:
        if entry.changes:
            self._rooms.pop(entry.persisted.room_nid)

    def _changed(self, _: Position, entry: PushersChanged) -> None:
        self._pushers.changed(entry.user_nid)
        self._letters.changed(entry.user_nid)
        if self._owners is not None or self._loading.locked():
            self._dirty.add(entry.user_nid)

    async def _ready(self) -> Mapping[int, Owner]:
        """Who has pushers."""
        if self._owners is not None and not self._dirty:
            return self._owners
        async with self._loading:
            while self._owners is None or self._dirty:
                await self._load()
            return self._owners

    async def _load(self) -> None:
        """Ask for all, or for those who have changed something since; whoever does so meanwhile is asked for again."""
        version, known = self._version, self._owners
        dirty, self._dirty = self._dirty, set()
        try:
            async with self._db.read() as tx:
                rows = await store.list_owners(tx, None if known is None else list(dirty))
        except BaseException:
            self._dirty |= dirty
            raise
        if version != self._version:
            return
        found: dict[int, Owner] = {}
        for row in rows:
            owner, key = found.get(row.user_nid, Owner(row.user_id, ())), (key_of(row.user_nid, row.url),)
            if row.url.startswith(MAILTO):
                found[row.user_nid] = owner._replace(addresses=owner.addresses + key)
            else:
                found[row.user_nid] = owner._replace(gateways=owner.gateways + key)
        if known is None:
            self._owners = found
            self._nids = {owner.user_id: nid for nid, owner in found.items()}
            return
        for user_nid in dirty:
            self._replace(known, user_nid, found.get(user_nid))

    def _replace(self, owners: dict[int, Owner], user_nid: int, owner: Owner | None) -> None:
        before = owners.get(user_nid)
        if (owner is None) != (before is None):
            self._rooms.clear()
        if owner is not None:
            owners[user_nid] = owner
            self._nids[owner.user_id] = user_nid
        elif before is not None:
            del owners[user_nid]
            del self._nids[before.user_id]

    # --- who has what ----------------------------------------------------------------------------------------------

    async def pushers_of(self, user_nid: int) -> Sequence[Pusher]:
        """All pushers of a user."""
        found = self._pushers.get(user_nid)
        return found if found is not None else (await self._load_pushers([user_nid]))[user_nid]

    async def prepare(self, user_nids: Iterable[int]) -> None:
        """Have the pushers of some users in memory: one query for all."""
        missing = [nid for nid in user_nids if self._pushers.get(nid) is None]
        if missing:
            await self._load_pushers(missing)

    async def _load_pushers(self, user_nids: Sequence[int]) -> dict[int, tuple[Pusher, ...]]:
        version = self._pushers.version
        async with self._db.read() as tx:
            rows = await store.list_of(tx, user_nids)
        by_user: dict[int, list[Pusher]] = {nid: [] for nid in user_nids}
        for row in rows:
            by_user[row.user_nid].append(row)
        found = {nid: tuple(pushers) for nid, pushers in by_user.items()}
        for nid, pushers in found.items():
            self._pushers.add(nid, pushers, version, PUSHER_BYTES * (1 + len(pushers)))
        return found

    async def _room(self, room_nid: int, owners: Mapping[int, Owner]) -> frozenset[int]:
        """Joined users who have pushers."""
        found = self._rooms.get(room_nid)
        if found is None:
            joined = (await self._all_rooms.get(room_nid)).local_joined
            if len(joined) <= len(owners):
                found = frozenset(nid for nid in joined if nid in owners)
            else:
                found = frozenset(nid for nid in owners if nid in joined)
            self._rooms.put(room_nid, found, ROOM_BYTES + USER_BYTES * len(found))
        return found

    # --- what an entry concerns ------------------------------------------------------------------------------------

    async def of(self, items: Sequence[Item[Any]]) -> Sequence[Keys]:
        """The keys that each item concerns. See `Reader.interest`."""
        owners = await self._ready()
        if not owners:
            return [NOBODY] * len(items)
        return [await self._of(item.value, owners) for item in items]

    async def _of(self, value: Any, owners: Mapping[int, Owner]) -> Keys:
        if isinstance(value, PersistedEvent):
            return self._of_hidden(value, owners) if value.hidden else await self._of_event(value, owners)
        if isinstance(value, HasRead | PushersChanged):
            owner = owners.get(value.user_nid)
            if owner is None:
                return NOBODY
            return owner.gateways if isinstance(value, HasRead) else owner.keys
        return NOBODY

    def _of_hidden(self, persisted: PersistedEvent, owners: Mapping[int, Owner]) -> Keys:
        """An invite to a room that this server is not in, or its end, concerns whom it is about."""
        event = persisted.event
        if persisted.flags != OUTLIER or event.type != "m.room.member":
            return NOBODY
        owner = owners.get(self._nids.get(event.state_key or "", 0))
        return owner.keys if owner is not None else NOBODY

    async def _of_event(self, persisted: PersistedEvent, owners: Mapping[int, Owner]) -> Keys:
        event = persisted.event
        concerned: set[int] = set()
        if event.type == "m.room.member" and event.state_key in self._nids:
            concerned.add(self._nids[event.state_key])
        users = await self._room(persisted.room_nid, owners)
        if users:
            concerned |= await self._notified(persisted, users, owners)
        told = [owners[nid] for nid in concerned if nid in owners]
        keys = {key for owner in told for key in owner.gateways}
        keys.update(key for owner in told for key in owner.addresses if not self._letters.awaits(key))
        if persisted.sender_nid in owners:  # who speaks has read what is before
            keys.update(owners[persisted.sender_nid].gateways)
        if event.type == "m.room.redaction":
            showing = (owners[nid].gateways for nid in users if nid in owners)
            keys.update(key for gateways in showing for key in gateways if self._shows(key))
        return keys

    async def _notified(
        self, persisted: PersistedEvent, users: Collection[int], owners: Mapping[int, Owner]
    ) -> set[int]:
        """Whom their rules notify of an event, or may."""
        room_id, facts = persisted.event.room_id, persisted.facts
        mentioned, found = set(facts.mentions), set[int]()
        known: dict[tuple[Evaluator, bool], bool] = {}
        for some in pieces(users, AT_ONCE):
            ids = {nid: owners[nid].user_id for nid in some if nid in owners}
            evaluators = await self._evaluators.of_many(ids)
            for nid, user in evaluators.items():
                which = (user.evaluator, nid in mentioned)
                notify = known.get(which)
                if notify is None:
                    outcome = which[0].in_room(room_id).by_fact(facts.bits, which[1], facts.thread)
                    notify = known[which] = outcome is None or outcome.notify
                if notify:
                    found.add(nid)
            if len(users) > AT_ONCE:
                await next_turn()
        found.discard(persisted.sender_nid)
        return found
