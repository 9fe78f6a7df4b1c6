"""SQL of devices."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.devices.types import DeviceRow
from homeserver.matrix.ids import DeviceId
from homeserver.storage.tx import Pipeline, Tx


def insert_device(
    batch: Pipeline, user_nid: int, device_id: DeviceId, display_name: str | None, now_ms: int
) -> None:
    """Nothing happens if it exists: then its name stays (CHECKLIST AUTH-11)."""
    batch.execute(
        """
        INSERT INTO devices (user_nid, device_id, display_name, created_ms)
        VALUES (%(user_nid)s, %(device_id)s, %(display_name)s, %(now)s) ON CONFLICT DO NOTHING
        """,
        user_nid=user_nid,
        device_id=device_id,
        display_name=display_name,
        now=now_ms,
    )


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


async def update_last_seen(tx: Tx, rows: Sequence[tuple[int, DeviceId, int, str, str]]) -> None:
    """(user_nid, device_id, Unix milliseconds, address, user agent) of each; never back in time.

    Locked in order, so that two processes that flush at once do not wait for each other.
    """
    await tx.execute(
        """
        WITH seen AS (
            SELECT * FROM unnest(%(users)s::bigint[], %(ids)s::text[], %(at)s::bigint[], %(ips)s::text[], %(agents)s::text[])
                AS s (user_nid, device_id, at_ms, ip, agent)
        ), locked AS (
            SELECT user_nid, device_id FROM devices JOIN seen USING (user_nid, device_id)
            WHERE last_seen_ms IS NULL OR last_seen_ms < at_ms
            ORDER BY user_nid, device_id FOR NO KEY UPDATE OF devices
        )
        UPDATE devices d SET last_seen_ms = s.at_ms, last_seen_ip = nullif(s.ip, ''), last_seen_agent = nullif(s.agent, '')
        FROM seen s JOIN locked USING (user_nid, device_id)
        WHERE d.user_nid = s.user_nid AND d.device_id = s.device_id
        """,
        users=[row[0] for row in rows],
        ids=[row[1] for row in rows],
        at=[row[2] for row in rows],
        ips=[row[3] for row in rows],
        agents=[row[4] for row in rows],
    )
