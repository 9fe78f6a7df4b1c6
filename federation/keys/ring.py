"""The keys of other servers, as far as this server knows them: memory, then the database, then the servers themselves.

spec: server-server-api/#retrieving-server-keys (CHECKLIST FED-06, FED-07)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from federation.keys import store
from federation.keys.fetching import KeyFetcher
from federation.keys.own import OwnKeys
from federation.keys.types import ServerKeys
from homeserver.events.signatures import KeyRecord, WantedKeys, valid_until
from homeserver.matrix.ids import ServerName
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

SHARE: Final = 0.5
_SERVER_BYTES: Final = 400
_KEY_BYTES: Final = 300

Keys = Mapping[str, KeyRecord]
"""By key id."""


class KeyRing:
    """Finds keys. What one process has fetched, the others find in the database."""

    def __init__(self, own: OwnKeys, fetcher: KeyFetcher, db: Database, memory: MemoryBudget) -> None:
        self._own = own
        self._fetcher = fetcher
        self._db = db
        self._known: Cache[ServerName, Keys] = memory.cache("server_keys", SHARE)

    async def find(
        self, wanted: Collection[WantedKeys], *, fetch: bool = True
    ) -> dict[ServerName, Collection[KeyRecord]]:
        """What is known of the servers named, after what is missing was asked for. May lack what was wanted; raises nothing
        for what others do. `fetch=False`: memory and the database alone.
        """
        wishes = _by_server(wanted)
        found: dict[ServerName, Keys] = {}
        if self._own.server_name in wishes:
            found[self._own.server_name] = self._own.records()
            del wishes[self._own.server_name]
        missing = self._from_memory(wishes, found)
        if missing:
            await self._load(missing)
            missing = self._from_memory({name: wishes[name] for name in missing}, found)
        if missing and fetch:
            fetched = await asyncio.gather(*(self._fetch(name) for name in missing))
            found.update(
                {keys.server_name: self._known.get(keys.server_name) or keys.keys for keys in fetched if keys}
            )
        return {name: tuple(keys.values()) for name, keys in found.items()}

    def at_hand(self, wanted: WantedKeys) -> Collection[KeyRecord] | None:
        """The keys of a server, if memory has those that are wanted."""
        if wanted.server == self._own.server_name:
            return tuple(self._own.records().values())
        keys = self._known.get(wanted.server)
        return None if keys is None or not _satisfied(keys, [wanted]) else tuple(keys.values())

    def _from_memory(
        self, wishes: Mapping[ServerName, list[WantedKeys]], found: dict[ServerName, Keys]
    ) -> list[ServerName]:
        """Fills `found` with what is here; the servers of which something is missing."""
        missing: list[ServerName] = []
        for name, wish in wishes.items():
            keys = self._known.get(name)
            if keys is not None:
                found[name] = keys
            if keys is None or not _satisfied(keys, wish):
                missing.append(name)
        return missing

    async def _load(self, server_names: Collection[ServerName]) -> None:
        async with self._db.read() as tx:
            rows = await store.find_keys(tx, server_names)
        found: dict[ServerName, dict[str, KeyRecord]] = {}
        for row in rows:
            found.setdefault(ServerName(row.server_name), {})[row.key_id] = row.record
        for name, keys in found.items():
            self._remember(name, keys)

    async def _fetch(self, server_name: ServerName) -> ServerKeys | None:
        fetched = await self._fetcher.fetch(server_name)
        known = self._known.get(server_name) or {}
        if fetched is None or all(known.get(key_id) == key for key_id, key in fetched.keys.items()):
            return fetched  # of many who waited for the same, one writes it down
        self._remember(server_name, {**known, **fetched.keys})
        await self._keep(fetched)
        return fetched

    async def _keep(self, keys: ServerKeys) -> None:
        rows = [store.KeyRow(keys.server_name, *record) for record in keys.keys.values()]
        response = msgspec.json.encode(keys.response)
        async with self._db.transaction() as tx:
            nid = await store.insert_response(
                tx, keys.server_name, keys.received_ts, keys.valid_until_ts, response
            )
            await store.upsert_keys(tx, nid, rows)
            await store.delete_responses(tx, keys.server_name)

    def _remember(self, server_name: ServerName, keys: Keys) -> None:
        self._known.put(server_name, keys, _SERVER_BYTES + _KEY_BYTES * len(keys))


def _by_server(wanted: Iterable[WantedKeys]) -> dict[ServerName, list[WantedKeys]]:
    wishes: dict[ServerName, list[WantedKeys]] = {}
    for wish in wanted:
        wishes.setdefault(wish.server, []).append(wish)
    return wishes


def _satisfied(keys: Keys, wishes: Iterable[WantedKeys]) -> bool:
    for wish in wishes:
        for key_id in wish.key_ids:
            key = keys.get(key_id)
            if key is None or (not key.old and valid_until(key) < wish.minimum_valid_until_ts):
                return False
    return True
