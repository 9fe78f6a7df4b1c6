"""Device keys, one-time keys and fallback keys: upload and claim.

spec: client-server-api/#key-distribution, #one-time-and-fallback-keys (E2E-01 to E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.e2ee import one_time_store as one_time
from homeserver.e2ee import ports, store
from homeserver.e2ee.checks import MAX_NAME, NOTHING, Change, CheckedKeys, change_between, check_upload
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry, KeysSpentEntry
from homeserver.e2ee.one_time_store import Claimed
from homeserver.e2ee.ports import RemoteKeys
from homeserver.e2ee.query import check_users
from homeserver.e2ee.uploads import Unchanged, Unread, Upload, by_algorithm
from homeserver.graph.interning import Interning
from homeserver.log.entries import Conflict, Entry, Written
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline

MAX_CLAIMED = 10_000
"""Devices of one claim."""
CLAIMED_AT_ONCE = 500
"""Devices whose keys are claimed in one transaction: all other writes wait for it."""


class KeyService:
    """Stores and hands out device, one-time and fallback keys. Owns the locks by which uploads of one device take turns."""

    def __init__(self, db: Database, log: LogWriter, interning: Interning, server_name: ServerName) -> None:
        self._db = db
        self._log = log
        self._interning = interning
        self._server_name = server_name
        self._turns = KeyedLocks()
        self._remote: RemoteKeys | None = None

    # --- upload --------------------------------------------------------------------------------------------------

    async def upload(
        self,
        user_nid: int,
        user_id: UserId,
        device_id: str,
        *,
        device_keys: Mapping[str, Any] | None,
        one_time_keys: Mapping[str, Any],
        fallback_keys: Mapping[str, Any],
    ) -> dict[str, int]:
        """Take a device's keys; all or nothing. Returns how many one-time keys wait, per algorithm.

        Raises `InvalidParam` (another user or device in the body, E2E-01; another key under an id in use, E2E-02),
        `BadJson`, `TooLarge`.
        """
        keys = check_upload(user_id, device_id, device_keys, one_time_keys, fallback_keys)
        if keys.device is not None:
            keys = await self._compared(user_nid, device_id, keys.device, keys)
        if keys == NOTHING:
            async with self._db.read() as tx, tx.pipeline() as batch:
                waiting = one_time.count_waiting(batch, user_nid, device_id)
            return dict(waiting.result)
        if keys.one_time or keys.fallback or keys.changed is Change.IDENTITY:
            return await self._write_counted(user_nid, user_id, device_id, keys)
        counted: list[Later[list[tuple[Any, ...]]]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            self.write(batch, user_nid, device_id, keys)
            counted.append(one_time.count_waiting(batch, user_nid, device_id))

        await self._log.append(*self.entries(user_nid, user_id, device_id, keys), alongside=write)
        return dict(counted[-1].result)

    async def _write_counted(
        self, user_nid: int, user_id: UserId, device_id: str, keys: CheckedKeys
    ) -> dict[str, int]:
        """What changes the number of keys that wait, or may: it meets those under the log's lock, and counts them."""
        rest = keys._replace(one_time=[])
        anew = keys.changed is Change.IDENTITY
        upload = Upload(user_nid, device_id, keys.one_time, anew=anew, other=rest != NOTHING)

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            self.write(batch, user_nid, device_id, rest)
            _write_upload(batch, upload)

        entries = self.entries(user_nid, user_id, device_id, keys, upload)

        async def append() -> None:
            try:
                await self._log.append(*entries, alongside=write)
            except Unread as why:
                async with self._db.read() as tx:
                    upload.read |= await one_time.find_keys(tx, user_nid, device_id, why.places)
                raise Conflict("keys of the same names were to be read first") from None
            except Unchanged:
                pass

        await self._turns.changed((user_nid, device_id), append)
        upload.release()
        return upload.counts

    async def _compared(self, user_nid: int, device_id: str, device: bytes, keys: CheckedKeys) -> CheckedKeys:
        """An upload with device keys, beside those there are."""
        async with self._db.read() as tx, tx.pipeline() as batch:
            before = store.find_device_keys(batch, user_nid, device_id)
        if before.result is None:
            return keys
        if before.result[0] == device:
            return keys._replace(device=None)
        return keys._replace(changed=change_between(before.result[0], device))

    @staticmethod
    def entries(
        user_nid: int, user_id: UserId, device_id: str, keys: CheckedKeys, upload: Upload | None = None
    ) -> list[Entry]:
        """What is logged with keys. `upload`: if the device may have one-time keys."""
        entries: list[Entry] = []
        if keys.device is not None:
            entries.append(DeviceListEntry(user_nid, user_id, devices=(device_id,)))
        if keys.one_time or keys.fallback or keys.changed is Change.IDENTITY:
            entries.append(KeyCountEntry(user_nid, device_id, upload))
        return entries

    @staticmethod
    def write(batch: Pipeline, user_nid: int, device_id: str, keys: CheckedKeys) -> None:
        """Store keys, together with their `entries`; one-time keys of a device that has none."""
        if keys.changed is Change.IDENTITY:
            store.delete_of_identities(batch, user_nid, [device_id])
        if keys.changed is not Change.NONE:
            store.delete_signatures_of(batch, user_nid, [device_id])
        if keys.device is not None:
            store.upsert_device_keys(batch, user_nid, device_id, keys.device)
        for pack in by_algorithm(keys.one_time).values():
            one_time.insert_pack(batch, user_nid, device_id, pack)
        if keys.fallback:
            store.upsert_fallback_keys(batch, user_nid, device_id, keys.fallback)

    # --- claim ---------------------------------------------------------------------------------------------------

    def ask_with(self, remote: RemoteKeys) -> None:
        """Who asks other servers. Without, they are in `failures`."""
        self._remote = remote

    async def claim_everywhere(
        self, wanted: Mapping[str, Mapping[str, str]], timeout: float
    ) -> ports.Claimed:
        """As `claim`, of users of other servers too. `timeout`: seconds that these have to answer. Raises `InvalidParam`."""
        check_users(wanted, "one_time_keys")
        if sum(map(len, wanted.values())) > MAX_CLAIMED:
            raise InvalidParam(f"one_time_keys: more than {MAX_CLAIMED} devices")
        elsewhere: dict[ServerName, dict[str, Mapping[str, str]]] = {}
        for user, devices in wanted.items():
            if (server := domain_of(user)) != self._server_name:
                elsewhere.setdefault(server, {})[user] = devices
        if not elsewhere:
            return ports.Claimed(await self._claim_here(wanted), {})
        if self._remote is None:
            return ports.Claimed(await self._claim_here(wanted), {server: {} for server in sorted(elsewhere)})
        asked = await self._remote.claim(elsewhere, timeout)
        return ports.Claimed({**await self._claim_here(wanted), **asked.keys}, asked.failures)

    async def claim(self, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, dict[str, Any]]]:
        """user_id -> device_id -> {"algorithm:id": key}, of users of this server: a one-time key each, given out once ever, or
        the fallback key.

        Devices without keys are left out (E2E-03). Raises `InvalidParam`.
        """
        check_users(wanted, "one_time_keys")
        return await self._claim_here(wanted)

    async def _claim_here(
        self, wanted: Mapping[str, Mapping[str, str]]
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """The same of users that were looked at."""
        local = [UserId(user) for user in wanted if domain_of(user) == self._server_name]
        nids = await self._interning.find_user_nids(local)
        rows = [
            (nid, device, algorithm)
            for user, nid in nids.items()
            for device, algorithm in wanted[user].items()
            if _can_be_named(device) and _can_be_named(algorithm)
        ]
        if len(rows) > MAX_CLAIMED:
            raise InvalidParam(f"one_time_keys: more than {MAX_CLAIMED} devices")
        names = {nid: user for user, nid in nids.items()}
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for first in range(0, len(rows), CLAIMED_AT_ONCE):
            for key in await self._claim(rows[first : first + CLAIMED_AT_ONCE]):
                devices = found.setdefault(names[key.user_nid], {})
                devices[key.device_id] = {f"{key.algorithm}:{key.key_id}": msgspec.Raw(key.key)}
        return found

    async def _claim(self, rows: Sequence[tuple[int, str, str]]) -> list[Claimed]:
        """In one transaction with the word of it: no process ever counts keys that are gone."""
        claimed: list[Later[list[Claimed]]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            claimed.append(one_time.claim(batch, rows))

        await self._log.append(KeysClaimedEntry([row[:2] for row in rows]), alongside=write)
        return claimed[-1].result

    async def spend_all(self) -> int:
        """After a restore from a backup: no key in it is handed out, clients upload new ones. Returns how many it were."""
        spent: list[Later[tuple[int] | None]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            spent.append(one_time.spend_keys(batch))

        await self._log.append(KeysSpentEntry(), alongside=write)
        row = spent[-1].result
        return row[0] if row else 0


def _write_upload(batch: Pipeline, upload: Upload) -> None:
    """What was found to be new."""
    for algorithm, keys in upload.new.items():
        pack = upload.extended.get(algorithm)
        if pack is None:
            one_time.insert_pack(batch, upload.user_nid, upload.device_id, keys)
        else:
            one_time.extend_pack(batch, upload.user_nid, upload.device_id, pack, keys)
    if upload.forgotten:
        one_time.delete_packs(batch, upload.user_nid, upload.device_id, upload.forgotten)


def _can_be_named(name: str) -> bool:
    """Whether a device or an algorithm can be called so: else nothing is stored under the name."""
    return len(name) <= MAX_NAME and "\0" not in name
