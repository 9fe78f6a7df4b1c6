"""SQL of device keys, fallback keys, and of the changes of device lists; `one_time_store` has that of one-time keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from homeserver.e2ee.one_time_store import NewKey, count_waiting, delete_all
from homeserver.e2ee.types import DeviceRow
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Later, Pipeline, Tx


class KeyCount(NamedTuple):
    """What of a device's keys can still be claimed; to be read when the flight is over."""

    waiting: Later[list[tuple[Any, ...]]]
    unused: Later[list[tuple[Any, ...]]]

    @property
    def counts(self) -> dict[str, int]:
        """One-time keys per algorithm."""
        return dict(self.waiting.result)

    @property
    def unused_fallback(self) -> list[str]:
        """Algorithms whose fallback key is unused."""
        return [row[0] for row in self.unused.result]


# --- device lists ------------------------------------------------------------------------------------------------


KEPT_POSITIONS = 1_000_000
"""Of changes further back than this only each user's last is kept: more nobody asks for."""


class ChangeRow(NamedTuple):
    """What changed in how a user's devices and keys look. See `DeviceListEntry`."""

    position: Position
    user_nid: int
    seen_by: int | None
    devices: Sequence[str] | None


class Change(NamedTuple):
    """The same as it is stored."""

    position: Position
    user_nid: int
    user_id: UserId
    seen_by: int | None
    devices: bytes | None

    @property
    def device_ids(self) -> tuple[str, ...] | None:
        """See `DeviceListEntry.devices`."""
        return None if self.devices is None else tuple(json.loads(self.devices))


def insert_changes(batch: Pipeline, rows: Sequence[ChangeRow]) -> None:
    """Older changes of the same users go."""
    batch.execute(
        """
        INSERT INTO device_list_changes (position, user_nid, seen_by, devices)
        SELECT * FROM unnest(%(positions)s::bigint[], %(users)s::bigint[], %(viewers)s::bigint[], %(devices)s::bytea[])
        """,
        positions=[row.position for row in rows],
        users=[row.user_nid for row in rows],
        viewers=[row.seen_by for row in rows],
        devices=[None if row.devices is None else json.dumps(row.devices) for row in rows],
    )
    batch.execute(
        """
        DELETE FROM device_list_changes c
        USING unnest(%(users)s::bigint[], %(viewers)s::bigint[]) AS row (user_nid, seen_by)
        WHERE c.user_nid = row.user_nid AND c.seen_by IS NOT DISTINCT FROM row.seen_by
          AND c.position < %(oldest)s::bigint
        """,
        users=[row.user_nid for row in rows],
        viewers=[row.seen_by for row in rows],
        oldest=rows[0].position - KEPT_POSITIONS,
    )


async def find_changed_users(tx: Tx, reader: int, since: Position, upto: Position) -> list[tuple[int, str]]:
    """(user_nid, user_id) whose device lists changed in (since, upto]: the reader, users joined to a room with them, and users
    whom the reader has signed.
    """
    return await tx.all(
        """
        SELECT u.user_nid, u.user_id FROM users u
        WHERE u.user_nid IN (SELECT c.user_nid FROM device_list_changes c
                             WHERE c.position > %(since)s AND c.position <= %(upto)s
                               AND (c.seen_by = %(reader)s
                                    OR c.seen_by IS NULL AND (c.user_nid = %(reader)s OR EXISTS (
                                        SELECT 1 FROM current_state mine JOIN current_state theirs USING (room_nid)
                                        WHERE mine.user_nid = %(reader)s AND mine.membership = 1
                                          AND theirs.user_nid = c.user_nid AND theirs.membership = 1))))
        """,
        reader=reader,
        since=since,
        upto=upto,
    )


async def list_changes(tx: Tx, after: Position, upto: Position, limit: int) -> list[Change]:
    """The oldest changes in (after, upto]."""
    return await tx.rows(
        Change,
        """
        SELECT position, user_nid, user_id, seen_by, devices FROM device_list_changes JOIN users USING (user_nid)
        WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        limit=limit,
    )


async def find_changes_at(tx: Tx, positions: Sequence[Position]) -> list[Change]:
    """The same of the changes at some positions."""
    return await tx.rows(
        Change,
        """
        SELECT position, user_nid, user_id, seen_by, devices FROM device_list_changes JOIN users USING (user_nid)
        WHERE position = ANY(%(positions)s::bigint[]) ORDER BY position
        """,
        positions=list(positions),
    )


def find_before(
    batch: Pipeline, changes: Sequence[tuple[int, Position]]
) -> Later[list[tuple[int, Position, Position, bytes | None]]]:
    """For each (user_nid, position) that has one: (user_nid, position, position and devices of the last change of the user's
    devices before it, for everybody to see).
    """
    return batch.all(
        """
        SELECT w.user_nid, w.position, c.position, c.devices
        FROM unnest(%(users)s::bigint[], %(positions)s::bigint[]) AS w (user_nid, position)
        CROSS JOIN LATERAL (
            SELECT c.position, c.devices FROM device_list_changes c
            WHERE c.user_nid = w.user_nid AND c.position < w.position AND c.seen_by IS NULL
                  AND c.devices IS DISTINCT FROM '[]'::bytea
            ORDER BY c.position DESC LIMIT 1) c
        """,
        users=[user for user, _ in changes],
        positions=[position for _, position in changes],
    )


async def find_newest(tx: Tx, user_nid: int, upto: Position) -> tuple[Position, bytes | None] | None:
    """Position (at most `upto`) and devices of the last change of a user's devices that everybody may see."""
    row = await tx.one(
        """
        SELECT position, devices FROM device_list_changes
        WHERE user_nid = %(user)s AND position <= %(upto)s AND seen_by IS NULL AND devices IS DISTINCT FROM '[]'::bytea
        ORDER BY position DESC LIMIT 1
        """,
        user=user_nid,
        upto=upto,
    )
    return (row[0], row[1]) if row else None


async def find_changes_for(
    tx: Tx, destination: str, bounds: tuple[Position, Position], limit: int
) -> list[Change]:
    """The oldest changes in (after, upto] of users with accounts who share a room with somebody of a server; those that everybody
    may see.
    """
    after, upto = bounds
    return await tx.rows(
        Change,
        """
        WITH theirs AS MATERIALIZED (
            SELECT DISTINCT s.room_nid FROM users t JOIN current_state s USING (user_nid)
            WHERE substr(t.user_id, strpos(t.user_id, ':') + 1) = %(destination)s AND s.membership = 1
        )
        SELECT c.position, c.user_nid, u.user_id, c.seen_by, c.devices
        FROM device_list_changes c JOIN users u USING (user_nid) JOIN accounts USING (user_nid)
        WHERE c.position > %(after)s AND c.position <= %(upto)s AND c.seen_by IS NULL
              AND EXISTS (SELECT 1 FROM current_state ours JOIN theirs USING (room_nid)
                          WHERE ours.user_nid = c.user_nid AND ours.membership = 1)
        ORDER BY c.position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        destination=destination,
        limit=limit,
    )


# --- device keys -------------------------------------------------------------------------------------------------


def find_device_keys(batch: Pipeline, user_nid: int, device_id: str) -> Later[tuple[bytes] | None]:
    """What the device has uploaded."""
    return batch.one(
        "SELECT keys FROM device_keys WHERE user_nid = %(user)s AND device_id = %(device)s",
        user=user_nid,
        device=device_id,
    )


def upsert_device_keys(batch: Pipeline, user_nid: int, device_id: str, keys: bytes) -> None:
    """Of a device that has ended meanwhile nothing is kept; so it is with all keys below."""
    batch.execute(
        """
        INSERT INTO device_keys (user_nid, device_id, keys)
        SELECT user_nid, device_id, %(keys)s FROM devices WHERE user_nid = %(user)s AND device_id = %(device)s
        ON CONFLICT (user_nid, device_id) DO UPDATE SET keys = excluded.keys
        """,
        user=user_nid,
        device=device_id,
        keys=keys,
    )


def find_devices(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[DeviceRow]]:
    """All devices of these users that have keys; of other servers' users those that are kept."""
    return batch.rows(
        DeviceRow,
        """
        SELECT k.user_nid, k.device_id, k.keys, d.display_name
        FROM device_keys k JOIN devices d USING (user_nid, device_id)
        WHERE k.user_nid = ANY(%(users)s::bigint[])
        UNION ALL
        SELECT user_nid, device_id, keys, display_name FROM remote_devices
        WHERE user_nid = ANY(%(users)s::bigint[])
        """,
        users=list(user_nids),
    )


def find_named_devices(batch: Pipeline, devices: Sequence[tuple[int, str]]) -> Later[list[DeviceRow]]:
    """Those of some devices, (user_nid, device_id), of this server that have keys."""
    return batch.rows(
        DeviceRow,
        """
        SELECT k.user_nid, k.device_id, k.keys, d.display_name
        FROM unnest(%(users)s::bigint[], %(devices)s::text[]) AS w (user_nid, device_id)
        JOIN device_keys k USING (user_nid, device_id) JOIN devices d USING (user_nid, device_id)
        """,
        users=[user_nid for user_nid, _ in devices],
        devices=[device_id for _, device_id in devices],
    )


def find_device_ids(batch: Pipeline, user_nid: int) -> Later[list[tuple[str]]]:
    """All devices of a user, with or without keys."""
    return batch.all("SELECT device_id FROM devices WHERE user_nid = %(user)s", user=user_nid)


def delete_of_devices(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """All keys of devices that end, and signatures of them and by them."""
    batch.execute(
        "DELETE FROM device_keys WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=list(device_ids),
    )
    delete_of_identities(batch, user_nid, device_ids)
    delete_signatures_of(batch, user_nid, device_ids)


def delete_of_identities(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """What devices' identity keys have signed: one-time and fallback keys, and signatures of cross-signing keys."""
    devices = list(device_ids)
    delete_all(batch, user_nid, devices)
    batch.execute(
        "DELETE FROM fallback_keys WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=devices,
    )
    batch.execute(
        """
        DELETE FROM key_signatures WHERE signer_nid = %(user)s AND target_nid = %(user)s
          AND signer_key = ANY(%(signers)s::text[])
        """,
        user=user_nid,
        signers=[f"ed25519:{device}" for device in devices],
    )


def delete_signatures_of(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """Signatures of devices' keys: they are of other keys now."""
    batch.execute(
        "DELETE FROM key_signatures WHERE target_nid = %(user)s AND target_key = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=list(device_ids),
    )


# --- fallback keys ---------------------------------------------------------------------------------------------------


def upsert_fallback_keys(batch: Pipeline, user_nid: int, device_id: str, keys: Sequence[NewKey]) -> None:
    """One per algorithm; a new one is unused, the same one again stays as it is (E2E-04)."""
    batch.execute(
        """
        INSERT INTO fallback_keys (user_nid, device_id, algorithm, key_id, key)
        SELECT d.user_nid, d.device_id, algorithm, key_id, key
        FROM devices d, unnest(%(algorithms)s::text[], %(ids)s::text[], %(keys)s::bytea[])
             AS row (algorithm, key_id, key)
        WHERE d.user_nid = %(user)s AND d.device_id = %(device)s
        ON CONFLICT (user_nid, device_id, algorithm) DO UPDATE
            SET key_id = excluded.key_id, key = excluded.key, used = false
            WHERE (fallback_keys.key_id, fallback_keys.key) <> (excluded.key_id, excluded.key)
        """,
        user=user_nid,
        device=device_id,
        algorithms=[key.algorithm for key in keys],
        ids=[key.key_id for key in keys],
        keys=[key.key for key in keys],
    )


def count_keys(batch: Pipeline, user_nid: int, device_id: str) -> KeyCount:
    """How many one-time keys wait per algorithm, and which fallback keys are unused."""
    unused = batch.all(
        """
        SELECT algorithm FROM fallback_keys
        WHERE user_nid = %(user)s AND device_id = %(device)s AND NOT used ORDER BY algorithm
        """,
        user=user_nid,
        device=device_id,
    )
    return KeyCount(count_waiting(batch, user_nid, device_id), unused)
