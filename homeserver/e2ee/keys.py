"""Device keys, one-time keys and fallback keys: upload and claim.

spec: client-server-api/#key-distribution, #one-time-and-fallback-keys (E2E-01 to E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.e2ee import store
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry, KeysSpentEntry
from homeserver.e2ee.query import check_users
from homeserver.e2ee.store import Claimed, KeyCount, NewKey, SameId
from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix import canonical_json
from homeserver.matrix.errors import BadJson, InvalidParam, TooLarge
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline

MAX_KEYS = 1_000
"""One-time keys of one upload."""
MAX_KEY_BYTES = 16 * 1024
MAX_DEVICE_KEYS_BYTES = 64 * 1024
MAX_STORED = 5_000
"""One-time keys a device can have waiting; clients keep 50 to 100."""
MAX_FALLBACK = 16
"""Algorithms of one upload with a fallback key."""
MAX_NAME = 255
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
        keys, once, fallback = self.check(user_id, device_id, device_keys, one_time_keys, fallback_keys)
        async with self._db.transaction() as tx, tx.pipeline() as batch:
            before = store.find_device_keys(batch, user_nid, device_id)
            same = store.find_same_ids(batch, user_nid, device_id, once)
            count = store.count_keys(batch, user_nid, device_id)
        once = _new_keys(once, same.result)
        if once and sum(count.counts.values()) + len(once) > MAX_STORED:
            raise InvalidParam(f"one_time_keys: more than {MAX_STORED} keys would wait")
        if before.result == (keys,):
            keys = None
        return await self._write(user_nid, user_id, device_id, keys, once, fallback) or count.counts

    @staticmethod
    def check(
        user_id: UserId,
        device_id: str,
        device_keys: Mapping[str, Any] | None,
        one_time_keys: Mapping[str, Any],
        fallback_keys: Mapping[str, Any],
    ) -> tuple[bytes | None, list[NewKey], list[NewKey]]:
        """What can be seen of an upload alone; returns it as it is stored. Raises as `upload`."""
        keys = None if device_keys is None else check_device_keys(user_id, device_id, device_keys)
        once, fallback = read_keys(one_time_keys, "one_time_keys"), read_keys(fallback_keys, "fallback_keys")
        if len({key.algorithm for key in fallback}) < len(fallback):
            raise InvalidParam("fallback_keys: more than one key of an algorithm")
        if len(fallback) > MAX_FALLBACK:
            raise InvalidParam(f"fallback_keys: more than {MAX_FALLBACK} algorithms")
        return keys, once, fallback

    async def _write(  # noqa: PLR0917  # one value each, called in one place
        self,
        user_nid: int,
        user_id: UserId,
        device_id: str,
        keys: bytes | None,
        once: Sequence[NewKey],
        fallback: Sequence[NewKey],
    ) -> dict[str, int] | None:
        """Returns how many one-time keys wait then; None if there was nothing to write."""
        entries: list[Entry] = []
        if keys is not None:
            entries.append(DeviceListEntry(user_nid, user_id))
        if once or fallback:
            entries.append(KeyCountEntry(user_nid, device_id))
        if not entries:
            return None
        counted: list[KeyCount] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            if keys is not None:
                store.upsert_device_keys(batch, user_nid, device_id, keys)
            if once:
                store.insert_one_time_keys(batch, user_nid, device_id, once)
            if fallback:
                store.upsert_fallback_keys(batch, user_nid, device_id, fallback)
            counted.append(store.count_keys(batch, user_nid, device_id))

        await self._log.append(*entries, alongside=write)
        return counted[-1].counts

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


def check_device_keys(user_id: UserId, device_id: str, keys: Mapping[str, Any]) -> bytes:
    """The object to be stored. Raises `InvalidParam`, `BadJson`, `TooLarge`."""
    if keys.get("user_id") != user_id:
        raise InvalidParam("device_keys.user_id: not the user who uploads")
    if keys.get("device_id") != device_id:
        raise InvalidParam("device_keys.device_id: not the device that uploads")
    algorithms = keys.get("algorithms")
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise BadJson("device_keys.algorithms: not a list of names")
    _check_strings(keys.get("keys"), "device_keys.keys")
    signatures = keys.get("signatures", {})
    if not isinstance(signatures, Mapping):
        raise BadJson("device_keys.signatures: not an object")
    for signer, by_key in signatures.items():
        if signer != user_id:  # others would be shown it as a signature of theirs
            raise InvalidParam("device_keys.signatures: of somebody else")
        _check_strings(by_key, "device_keys.signatures")
    data = canonical_json.encode_strict({key: value for key, value in keys.items() if key != "unsigned"})
    if len(data) > MAX_DEVICE_KEYS_BYTES:
        raise TooLarge(f"device_keys: more than {MAX_DEVICE_KEYS_BYTES} bytes")
    return data


def read_keys(keys: Mapping[str, Any], where: str) -> list[NewKey]:
    """One-time or fallback keys as rows, in the order of the body. Raises `BadJson`, `InvalidParam`, `TooLarge`."""
    if len(keys) > MAX_KEYS:
        raise InvalidParam(f"{where}: more than {MAX_KEYS} keys")
    rows: list[NewKey] = []
    for name, key in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id) or len(name) > MAX_NAME or "\0" in name:
            raise InvalidParam(f"{where}: {name[:80]!r} is not algorithm:id")
        if isinstance(key, Mapping):
            if not isinstance(key.get("key"), str):
                raise BadJson(f"{where}.{name}.key: not a string")
        elif not isinstance(key, str):
            raise BadJson(f"{where}.{name}: neither a string nor an object")
        data = canonical_json.encode_strict(key)  # one spelling, whatever numbers are in it
        if len(data) > MAX_KEY_BYTES:
            raise TooLarge(f"{where}.{name}: more than {MAX_KEY_BYTES} bytes")
        rows.append(NewKey(algorithm, key_id, data))
    return rows


def _new_keys(keys: Sequence[NewKey], stored: Sequence[SameId]) -> list[NewKey]:
    """Those that are not there yet. Raises `InvalidParam` for another key under the id of one that waits (E2E-02)."""
    same = {(row.algorithm, row.key_id): row for row in stored}
    found: list[NewKey] = []
    for key in keys:
        before = same.get((key.algorithm, key.key_id))
        if before is None or (before.claimed and before.key != key.key):
            found.append(key)
        elif before.key != key.key:
            raise InvalidParam(f"one_time_keys.{key.algorithm}:{key.key_id}: another key has that id")
    return found


def _can_be_named(name: str) -> bool:
    """Whether a device or an algorithm can be called so: else nothing is stored under the name."""
    return len(name) <= MAX_NAME and "\0" not in name


def _check_strings(value: object, where: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise BadJson(f"{where}: not an object of strings")
