"""SQL of dehydrated devices."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.ids import DeviceId
from homeserver.storage.tx import Tx


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


async def upsert(tx: Tx, user_nid: int, device_id: DeviceId, data: bytes) -> None:
    """From now on this is the user's only one."""
    await tx.execute(
        """
        INSERT INTO dehydrated_devices (user_nid, device_id, data) VALUES (%(user)s, %(device)s, %(data)s)
        ON CONFLICT (user_nid) DO UPDATE SET device_id = excluded.device_id, data = excluded.data
        """,
        user=user_nid,
        device=device_id,
        data=data,
    )
