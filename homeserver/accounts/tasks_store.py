"""SQL of what is still to be done for users."""

from __future__ import annotations

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx


async def find_user_id(tx: Tx, user_nid: int) -> UserId | None:
    return await tx.value(  # type: ignore[no-any-return]  # text
        "SELECT user_id FROM users WHERE user_nid = %(nid)s", nid=user_nid
    )
