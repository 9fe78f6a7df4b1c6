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
from federation.keys.notaries import Notaries
from federation.keys.own import OwnKeys
from federation.keys.types import Keys, ServerKeys
from homeserver.events.signatures import KeyRecord, WantedKeys, valid_until
from homeserver.matrix.ids import ServerName
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

SHARE: Final = 0.5
_SERVER_BYTES: Final = 400
_KEY_BYTES: Final = 300
MAX_KEPT: Final = 500
"""Keys of one server: some times as many as one answer may have, for one that leaves out old ones."""
FEW: Final = 3
"""Servers that are asked themselves before notaries are."""


class KeyRing:
    """Finds keys. What one process has fetched, the others find in the database."""

    def __init__(
        self, own: OwnKeys, fetcher: KeyFetcher, notaries: Notaries, db: Database, memory: MemoryBudget
    ) -> None:
        self._own = own
        self._fetcher = fetcher
        self._notaries = notaries
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
            await self._fetch_all({name: wishes[name] for name in missing}, found)
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

    async def refresh(self, server_name: ServerName) -> bool:
        """Ask a server for its keys again; whether something has come."""
        return await self._fetcher.fetch(server_name, self._take) is not None

    async def _fetch_all(
        self, wishes: Mapping[ServerName, list[WantedKeys]], found: dict[ServerName, Keys]
    ) -> None:
        """Few servers are asked themselves, and notaries about those that do not answer; of many, notaries are asked first:
        among them there are always some that have gone, and a notary answers for a hundred at once.
        """
        notaries_first = bool(self._notaries) and len(wishes) > FEW
        if notaries_first:
            wishes = await self._ask_notaries(wishes, found)
        fetched = await asyncio.gather(*(self._fetcher.fetch(name, self._take) for name in wishes))
        for name, told in zip(wishes, fetched, strict=True):
            known = told or self._known.get(
                name
            )  # somebody else may have fetched them since memory was asked
            if known is not None:
                found[name] = known
        if self._notaries and not notaries_first:
            left = {name: wish for name, wish in wishes.items() if not _satisfied(found.get(name, {}), wish)}
            if left:
                await self._ask_notaries(left, found)

    async def _ask_notaries(
        self, wishes: Mapping[ServerName, list[WantedKeys]], found: dict[ServerName, Keys]
    ) -> Mapping[ServerName, list[WantedKeys]]:
        """Fills `found`; what is missing still."""
        for name, keys in (await self._notaries.ask(wishes)).items():
            known = self._known.get(name) or {}
            newer = {key_id: key for key_id, key in keys.keys.items() if _says_more(key, known.get(key_id))}
            found[name] = await self._take(keys._replace(keys=newer))
        return {name: wish for name, wish in wishes.items() if not _satisfied(found.get(name, {}), wish)}

    async def _take(self, fetched: ServerKeys) -> Keys:
        """Remember and keep; all that is known of the server then."""
        known = self._known.get(fetched.server_name) or {}
        if any(known.get(key_id) != key for key_id, key in fetched.keys.items()):
            known = {**known, **fetched.keys}
            self._remember(fetched.server_name, known)
            await self._keep(fetched)  # of many who waited for the same, one writes it down
        return known

    async def _keep(self, keys: ServerKeys) -> None:
        rows = [store.KeyRow(keys.server_name, *record) for record in keys.keys.values()]
        response = msgspec.json.encode(keys.response)
        async with self._db.transaction() as tx:
            nid = await store.insert_response(
                tx, keys.server_name, keys.received_ts, keys.valid_until_ts, response
            )
            await store.upsert_keys(tx, nid, rows)
            await store.delete_surplus_keys(tx, keys.server_name, MAX_KEPT)
            await store.delete_responses(tx, keys.server_name)

    def _remember(self, server_name: ServerName, keys: Keys) -> None:
        self._known.put(server_name, keys, _SERVER_BYTES + _KEY_BYTES * len(keys))


def _by_server(wanted: Iterable[WantedKeys]) -> dict[ServerName, list[WantedKeys]]:
    wishes: dict[ServerName, list[WantedKeys]] = {}
    for wish in wanted:
        wishes.setdefault(wish.server, []).append(wish)
    return wishes


def _says_more(told: KeyRecord, known: KeyRecord | None) -> bool:
    """Whether a notary, whose answer may be an old one, is believed beside what is known already."""
    return known is None or (not known.old and (told.old or told.valid_until_ts > known.valid_until_ts))


def _satisfied(keys: Keys, wishes: Iterable[WantedKeys]) -> bool:
    for wish in wishes:
        for key_id in wish.key_ids:
            key = keys.get(key_id)
            if key is None or (not key.old and valid_until(key) < wish.minimum_valid_until_ts):
                return False
    return True
