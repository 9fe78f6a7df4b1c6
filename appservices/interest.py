"""Which services an entry of the log concerns: a projection, so that what concerns nobody costs a look into memory.

Of a room it is known which services' users are in it, and were from which position to which: so an entry that is read
again later, because a service was away, concerns the same services as when it was written. The regular expressions of
namespaces are tried when a room is loaded and when somebody new comes into it, never for an event.

spec: application-service-api/#registration (CHECKLIST AS-03)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from appservices import store
from appservices.registry import Registry
from appservices.types import Service
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry
from homeserver.graph.entry import EventEntry, touches_state
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN, OUTLIER
from homeserver.log.entries import Entry, Position
from homeserver.log.readers.types import Item
from homeserver.log.tail import Handler, Narrowed, Tail
from homeserver.matrix.ids import RoomAlias, UserId
from homeserver.presence.types import PresenceEntry
from homeserver.receipts.types import PRIVATE, ReceiptEntry
from homeserver.rooms.entries import AliasesChanged
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.typing.entries import TypingEntry

SHARE: Final = 1.0
ROOM_BYTES, USER_BYTES, OWNER_BYTES = 400, 100, 200
MAX_ROOMS: Final = 1_000
"""Rooms of a user that are looked at for whom their presence or their devices concern."""
AT_ONCE: Final = 200
NOBODY: Final[Collection[str]] = ()
Keys = Collection[str]


class Stays:
    """When users of one service were in a room: times that do not overlap, in order."""

    __slots__ = ("joined", "times")

    def __init__(self) -> None:
        self.joined: set[int] = set()
        """user_nids of those who are in now."""
        self.times: list[tuple[Position, Position | None]] = []
        """(the first position, the last one); None: it goes on."""

    def change(self, user_nid: int, position: Position, *, joins: bool) -> None:
        """A user of the service has come or gone."""
        were_in = bool(self.joined)
        if joins:
            self.joined.add(user_nid)
        else:
            self.joined.discard(user_nid)
        if self.joined and not were_in:
            self.times.append((position, None))
        elif were_in and not self.joined:
            self.times[-1] = (self.times[-1][0], position)

    def hold(self, position: Position) -> bool:
        """Whether anybody was in then."""
        for first, last in reversed(self.times):
            if first <= position:
                return last is None or position <= last
        return False


class RoomInterest:
    """What is known of a room: as of `position`."""

    __slots__ = ("always", "position", "stays")

    def __init__(self, position: Position, always: frozenset[str]) -> None:
        self.position = position
        self.always = always
        """Services that have the room or an alias of it in a namespace."""
        self.stays: dict[str, Stays] = {}

    def at(self, position: Position) -> Keys:
        """Ids of services that what was written then concerns."""
        if not self.stays:
            return self.always
        return self.always.union(key for key, stays in self.stays.items() if stays.hold(position))

    @property
    def size(self) -> int:
        return ROOM_BYTES + USER_BYTES * sum(
            len(stays.joined) + len(stays.times) for stays in self.stays.values()
        )


class Interest:
    """Fulfils `Reader.interest`. The registry tells it when services change."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        registry: Registry,
        db: Database,
        tail: Tail,
        interning: Interning,
        memberships: Memberships,
        memory: MemoryBudget,
    ) -> None:
        self._registry = registry
        self._db = db
        self._tail = tail
        self._interning = interning
        self._memberships = memberships
        self._rooms: Cache[int, RoomInterest] = memory.cache("appservice_rooms", SHARE)
        self._owners: Cache[int, Keys] = memory.cache("appservice_users", SHARE)
        self._version = 0
        self._told: tuple[Service, ...] = ()
        """Services that want to hear anything."""
        registry.on_change(self.reset)

    # --- the projection ----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {
            EventEntry: Narrowed(self._event, touches_state),
            AliasesChanged: lambda _, entry: self._forget(entry.room_nid),
        }

    def reset(self) -> None:
        """Entries were missed, or services are others."""
        self._version += 1
        self._rooms.clear()
        self._owners.clear()
        self._told = tuple(each for each in self._registry.services.values() if each.url is not None)

    def _forget(self, room_nid: int) -> None:
        self._version += 1
        self._rooms.pop(room_nid)

    def _event(self, position: Position, entry: EventEntry) -> None:
        room_nid = entry.persisted.room_nid
        if entry.persisted.event.type == "m.room.tombstone":
            self._forget(room_nid)  # the aliases go over to the room that replaces it
            return
        room = self._rooms.get(room_nid)
        if room is not None:
            self._apply(room, position, entry)
            self._rooms.resize(room_nid, room.size)

    def _apply(self, room: RoomInterest, position: Position, entry: EventEntry) -> None:
        if position <= room.position:
            return
        room.position = position
        for change in entry.changes:
            if change.local and change.user_nid is not None:
                self._change(
                    room, (change.user_nid, change.key[1]), position, joins=change.membership == JOIN
                )

    def _change(self, room: RoomInterest, user: tuple[int, str], position: Position, *, joins: bool) -> None:
        user_nid, user_id = user
        for service in self._told:
            stays = room.stays.get(service.id)
            if joins and (stays is None or user_nid not in stays.joined):
                if service.watches(user_id):
                    room.stays.setdefault(service.id, Stays()).change(user_nid, position, joins=True)
            elif not joins and stays is not None and user_nid in stays.joined:
                stays.change(user_nid, position, joins=False)

    async def users_in(self, service: Service, room_nid: int) -> Collection[int]:
        """user_nids of a service's users that are in a room, as of `tail.position` or later."""
        stays = (await self._room(room_nid)).stays.get(service.id)
        return stays.joined if stays is not None else ()

    async def _room(self, room_nid: int) -> RoomInterest:
        """The room as of `tail.position` or later."""
        found = self._rooms.get(room_nid)
        while found is None:
            version = self._version
            identity = (await self._interning.rooms([room_nid]))[room_nid]
            async with self._db.snapshot() as tx:
                position, rows, aliases = await store.read_room(tx, room_nid)
            loaded = RoomInterest(position, self._always(identity.room_id, aliases))
            for start in range(0, len(rows), AT_ONCE):
                for row in rows[start : start + AT_ONCE]:
                    self._change(loaded, row[:2], row.position, joins=row.membership == JOIN)
                await next_turn()
            if position < self._tail.floor or version != self._version:
                continue
            for written in self._tail.since(position) if position < self._tail.position else ():
                if isinstance(written.entry, EventEntry) and written.entry.persisted.room_nid == room_nid:
                    self._apply(loaded, written.position, written.entry)
            self._rooms.put(room_nid, loaded, loaded.size)
            found = loaded
        return found

    def _always(self, room_id: Any, aliases: Iterable[str]) -> frozenset[str]:
        return frozenset(
            service.id
            for service in self._told
            if service.watches_room(room_id)
            or any(service.watches_alias(RoomAlias(each)) for each in aliases)
        )

    # --- what an entry concerns ------------------------------------------------------------------------------------

    async def of(self, items: Sequence[Item[Any]]) -> Sequence[Keys]:
        """Ids of services that each item concerns. See `Reader.interest`."""
        if not self._told:
            return [NOBODY] * len(items)
        await self._prepare(items)
        return [await self._of(item.position, item.value) for item in items]

    async def _prepare(self, items: Sequence[Item[Any]]) -> None:
        """Have in memory what is asked of the users of many entries: one query for many."""
        near: set[int] = set()
        if any(each.encryption for each in self._told):
            near |= {each.value.user_nid for each in items if isinstance(each.value, DeviceListEntry)}
        if any(each.ephemeral for each in self._told):
            near |= {each.value.user_nid for each in items if isinstance(each.value, PresenceEntry)}
        if near:
            await self._memberships.prepare(near)
        owned = {
            each.value.user_nid for each in items if isinstance(each.value, ToDeviceEntry | KeyCountEntry)
        }
        unknown = [nid for nid in owned if self._owners.get(nid) is None]
        if unknown:
            await self._load_owners(unknown)

    async def _of(self, position: Position, value: Any) -> Keys:
        if isinstance(value, PersistedEvent):
            return await self._of_event(position, value)
        if isinstance(value, ToDeviceEntry):
            return self._those(await self._owner(value.user_nid), lambda each: each.ephemeral)
        if isinstance(value, KeyCountEntry):
            return self._those(await self._owner(value.user_nid), lambda each: each.encryption)
        if isinstance(value, KeysClaimedEntry):
            owners = [await self._owner(user_nid) for user_nid in {nid for nid, _ in value.devices}]
            return self._those({key for keys in owners for key in keys}, lambda each: each.encryption)
        if isinstance(value, DeviceListEntry):
            if value.seen_by is not None or not any(each.encryption for each in self._told):
                return NOBODY
            return await self._near(position, value.user_nid, value.user_id, lambda each: each.encryption)
        if not any(each.ephemeral for each in self._told):
            return NOBODY
        if isinstance(value, PresenceEntry):
            return await self._near(position, value.user_nid, value.user_id, lambda each: each.ephemeral)
        return await self._of_ephemeral(position, value)

    async def _of_event(self, position: Position, persisted: PersistedEvent) -> Keys:
        if persisted.hidden:
            return await self._of_membership_beside(persisted)
        keys = (await self._room(persisted.room_nid)).at(position)
        event = persisted.event
        if event.type == "m.room.member" and event.state_key is not None:
            target = event.state_key
            return {*keys, *(each.id for each in self._told if each.id not in keys and each.watches(target))}
        return keys

    async def _of_membership_beside(self, persisted: PersistedEvent) -> Keys:
        """Of an invite to a room that this server is not in, or its end: if it still stands."""
        event = persisted.event
        if persisted.flags != OUTLIER or event.type != "m.room.member" or event.state_key is None:
            return NOBODY
        keys = {each.id for each in self._told if each.watches(event.state_key)}
        target = UserId(event.state_key)
        nid = (await self._interning.find_user_nids([target])).get(target) if keys else None
        own = (await self._memberships.of(nid)).rooms.get(persisted.room_nid) if nid is not None else None
        return keys if own is not None and own.event_nid == persisted.nid else NOBODY

    async def _of_ephemeral(self, position: Position, value: TypingEntry | ReceiptEntry) -> Keys:
        private = isinstance(value, ReceiptEntry) and value.type == PRIVATE
        keys = (await self._room(value.room_nid)).at(position)
        if not keys:
            return NOBODY
        # spec: #pushing-ephemeral-data: private receipts of the service's own users alone (AS-08)
        return self._those(keys, lambda each: each.ephemeral and (not private or each.watches(value.user_id)))

    async def _near(
        self, position: Position, user_nid: int, user_id: str, wants: Callable[[Service], bool]
    ) -> Keys:
        """Services whose users share a room with somebody, or whose user it is."""
        wanted = {each.id for each in self._told if wants(each)}
        found = {each.id for each in self._told if each.id in wanted and each.watches(user_id)}
        joined = (await self._memberships.of(user_nid)).joined
        for room_nid in islice(joined, MAX_ROOMS):
            if found >= wanted:
                break
            found |= wanted.intersection((await self._room(room_nid)).at(position))
        return found

    async def _owner(self, user_nid: int) -> Keys:
        """The service whose user it is: that made the account, or whose sender it is.

        Of people whom a service merely watches over it hears nothing that is for their devices.
        """
        owner = self._owners.get(user_nid)
        return owner if owner is not None else (await self._load_owners([user_nid]))[user_nid]

    async def _load_owners(self, user_nids: Sequence[int]) -> dict[int, Keys]:
        found: dict[int, Keys] = dict.fromkeys(user_nids, ())
        version = self._version
        async with self._db.read() as tx:
            rows = await store.find_accounts(tx, user_nids)
        for user_nid, user_id, made_by in rows:
            found[user_nid] = tuple(
                each.id
                for each in self._told
                if user_id == each.sender or (made_by == each.id and each.watches(user_id))
            )
        if version == self._version:
            for user_nid, owner in found.items():
                self._owners.put(user_nid, owner, OWNER_BYTES)
        return found

    def _those(self, keys: Keys, wants: Callable[[Service], bool]) -> Keys:
        return [each.id for each in self._told if each.id in keys and wants(each)]
