"""SQL of dehydrated devices."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.ids import DeviceId
from homeserver.storage.tx import Pipeline, Tx


class DehydratedRow(NamedTuple):
    """What a user's dehydrated device is called, and what it is made from."""

    device_id: DeviceId
    data: bytes


async def find(tx: Tx, user_nid: int) -> DehydratedRow | None:
    """The user's only one."""
    return await tx.row(
        DehydratedRow,
        "SELECT device_id, data FROM dehydrated_devices WHERE user_nid = %(user)s",
        user=user_nid,
    )


async def is_another(tx: Tx, user_nid: int, device_id: str) -> bool:
    """Whether a device of the user is called so and is not the dehydrated one."""
    return bool(
        await tx.value(
            """
            SELECT EXISTS (SELECT FROM devices WHERE user_nid = %(user)s AND device_id = %(device)s)
                AND NOT EXISTS (SELECT FROM dehydrated_devices WHERE user_nid = %(user)s AND device_id = %(device)s)
            """,
            user=user_nid,
            device=device_id,
        )
    )


def put(batch: Pipeline, user_nid: int, device_id: DeviceId, data: bytes, before: DeviceId | None) -> None:
    """From now on this is the user's only one, in place of `before`. If that is not what is kept by now, the statement
    fails with `psycopg.errors.NotNullViolation`.
    """
    batch.execute(
        """
        INSERT INTO dehydrated_devices AS d (user_nid, device_id, data) VALUES (%(user)s, %(device)s, %(data)s)
        ON CONFLICT (user_nid) DO UPDATE SET data = excluded.data,
            device_id = CASE WHEN d.device_id = %(before)s THEN excluded.device_id END
        """,
        user=user_nid,
        device=device_id,
        data=data,
        before=before,
    )


async def update(tx: Tx, user_nid: int, device_id: DeviceId, data: bytes) -> None:
    """What the device is made from, if it still is the one that is kept."""
    await tx.execute(
        """
        UPDATE dehydrated_devices SET data = %(data)s WHERE user_nid = %(user)s AND device_id = %(device)s
        """,
        user=user_nid,
        device=device_id,
        data=data,
    )
