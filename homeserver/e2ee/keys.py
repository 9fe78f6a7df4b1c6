"""Device keys, one-time keys and fallback keys: upload and claim.

spec: client-server-api/#key-distribution, #one-time-and-fallback-keys (E2E-01 to E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.e2ee import store
from homeserver.e2ee.checks import (
    MAX_NAME,
    NOTHING,
    Change,
    CheckedKeys,
    change_between,
    check_upload,
    new_keys,
)
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry, KeysSpentEntry
from homeserver.e2ee.query import check_users
from homeserver.e2ee.store import Claimed
from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline

MAX_STORED = 5_000
"""One-time keys a device can have waiting; clients keep 50 to 100."""
MAX_CLAIMED = 10_000
"""Devices of one claim."""
CLAIMED_AT_ONCE = 500
"""Devices whose keys are claimed in one transaction: all other writes wait for it."""


class KeyService:
    """One per process."""

    def __init__(self, db: Database, log: LogWriter, interning: Interning, server_name: ServerName) -> None:
        self._db = db
        self._log = log
        self._interning = interning
        self._server_name = server_name

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
        async with self._db.read() as tx, tx.pipeline() as batch:
            before = store.find_device_keys(batch, user_nid, device_id) if keys.device else None
            same = store.find_same_ids(batch, user_nid, device_id, keys.one_time) if keys.one_time else None
            waiting = store.count_waiting(batch, user_nid, device_id)
        counts: dict[str, int] = dict(waiting.result)
        if keys.device is not None and before is not None and before.result is not None:
            keys = keys._replace(changed=change_between(before.result[0], keys.device))
        if keys.changed is Change.IDENTITY:
            counts = {}  # what waits is of no use any more, and its names are free
        elif same is not None:
            keys = keys._replace(one_time=new_keys(keys.one_time, same.result))
        if keys.one_time and sum(counts.values()) + len(keys.one_time) > MAX_STORED:
            raise InvalidParam(f"one_time_keys: more than {MAX_STORED} keys would wait")
        if before is not None and before.result == (keys.device,):
            keys = keys._replace(device=None)
        if keys == NOTHING:
            return counts
        counted: list[Later[list[tuple[Any, ...]]]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            self.write(batch, user_nid, device_id, keys)
            counted.append(store.count_waiting(batch, user_nid, device_id))

        await self._log.append(*self.entries(user_nid, user_id, device_id, keys), alongside=write)
        return dict(counted[-1].result)

    @staticmethod
    def entries(user_nid: int, user_id: UserId, device_id: str, keys: CheckedKeys) -> list[Entry]:
        """What is logged with keys."""
        entries: list[Entry] = []
        if keys.device is not None:
            entries.append(DeviceListEntry(user_nid, user_id))
        if keys.one_time or keys.fallback or keys.changed is Change.IDENTITY:
            entries.append(KeyCountEntry(user_nid, device_id))
        return entries

    @staticmethod
    def write(batch: Pipeline, user_nid: int, device_id: str, keys: CheckedKeys) -> None:
        """Store keys, together with their `entries`."""
        if keys.changed is Change.IDENTITY:
            store.delete_of_identities(batch, user_nid, [device_id])
        if keys.changed is not Change.NONE:
            store.delete_signatures_of(batch, user_nid, [device_id])
        if keys.device is not None:
            store.upsert_device_keys(batch, user_nid, device_id, keys.device)
        if keys.one_time:
            store.insert_one_time_keys(batch, user_nid, device_id, keys.one_time)
        if keys.fallback:
            store.upsert_fallback_keys(batch, user_nid, device_id, keys.fallback)

    # --- claim ---------------------------------------------------------------------------------------------------

    async def claim(self, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, dict[str, Any]]]:
        """user_id -> device_id -> {"algorithm:id": key}: a one-time key each, given out once ever, or the fallback key.

        Devices without keys are left out (E2E-03). Raises `InvalidParam`.
        """
        check_users(wanted, "one_time_keys")
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
            claimed.append(store.claim(batch, rows))

        await self._log.append(KeysClaimedEntry([row[:2] for row in rows]), alongside=write)
        return claimed[-1].result

    async def spend_all(self) -> int:
        """After a restore from a backup: no key in it is handed out, clients upload new ones. Returns how many it were."""
        spent: list[Later[int]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            spent.append(store.spend_keys(batch))

        await self._log.append(KeysSpentEntry(), alongside=write)
        return spent[-1].result


def _can_be_named(name: str) -> bool:
    """Whether a device or an algorithm can be called so: else nothing is stored under the name."""
    return len(name) <= MAX_NAME and "\0" not in name
