"""SQL of devices."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.devices.types import DeviceRow
from homeserver.matrix.ids import DeviceId
from homeserver.storage.tx import Pipeline, Tx


async def list_devices(tx: Tx, user_nid: int) -> list[DeviceRow]:
    """All devices of a user, the oldest first."""
    return await tx.rows(
        DeviceRow,
        """
        SELECT device_id, display_name, last_seen_ms, last_seen_ip, last_seen_agent FROM devices
        WHERE user_nid = %(user_nid)s ORDER BY created_ms, device_id
        """,
        user_nid=user_nid,
    )


async def find_device(tx: Tx, user_nid: int, device_id: DeviceId) -> DeviceRow | None:
    return await tx.row(
        DeviceRow,
        """
        SELECT device_id, display_name, last_seen_ms, last_seen_ip, last_seen_agent FROM devices
        WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s
        """,
        user_nid=user_nid,
        device_id=device_id,
    )


async def find_ids(tx: Tx, user_nid: int) -> list[DeviceId]:
    return await tx.column("SELECT device_id FROM devices WHERE user_nid = %(user_nid)s", user_nid=user_nid)


async def find_surplus(tx: Tx, user_nid: int, most: int) -> list[DeviceId]:
    """Devices that are logged in beyond so many, those unused longest. Devices without a session are not counted: the
    server keeps them (dehydrated) or an application service does.
    """
    return await tx.column(
        """
        SELECT device_id FROM devices d WHERE user_nid = %(user_nid)s
          AND EXISTS (SELECT FROM access_tokens t WHERE t.user_nid = d.user_nid AND t.device_id = d.device_id)
        ORDER BY greatest(last_seen_ms, created_ms) DESC, device_id OFFSET %(most)s
        """,
        user_nid=user_nid,
        most=most,
    )


def rename(batch: Pipeline, user_nid: int, device_id: DeviceId, display_name: str) -> None:
    batch.execute(
        """
        UPDATE devices SET display_name = %(name)s WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s
        """,
        user_nid=user_nid,
        device_id=device_id,
        name=display_name,
    )


async def insert_if_new(
    tx: Tx, user_nid: int, device_id: DeviceId, display_name: str | None, now_ms: int
) -> bool:
    """False, and nothing happens, if it exists."""
    count = await tx.execute(
        """
        INSERT INTO devices (user_nid, device_id, display_name, created_ms)
        VALUES (%(user_nid)s, %(device_id)s, %(display_name)s, %(now)s) ON CONFLICT DO NOTHING
        """,
        user_nid=user_nid,
        device_id=device_id,
        display_name=display_name,
        now=now_ms,
    )
    return count == 1


def insert_new_device(
    batch: Pipeline, user_nid: int, device_id: DeviceId, display_name: str | None, now_ms: int
) -> None:
    """Fails with `psycopg.errors.UniqueViolation` if it exists."""
    batch.execute(
        """
        INSERT INTO devices (user_nid, device_id, display_name, created_ms)
        VALUES (%(user_nid)s, %(device_id)s, %(display_name)s, %(now)s)
        """,
        user_nid=user_nid,
        device_id=device_id,
        display_name=display_name,
        now=now_ms,
    )


def delete_devices(batch: Pipeline, user_nid: int, device_ids: Sequence[DeviceId]) -> None:
    """Their tokens go with them."""
    batch.execute(
        "DELETE FROM devices WHERE user_nid = %(user_nid)s AND device_id = ANY(%(ids)s::text[])",
        user_nid=user_nid,
        ids=list(device_ids),
    )
