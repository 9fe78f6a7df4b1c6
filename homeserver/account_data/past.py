"""What global account data was, for other features: push rules and whom a user ignored (`entries.KEPT_PAST`)."""

from __future__ import annotations

from homeserver.account_data import store
from homeserver.log.entries import Position
from homeserver.storage.tx import Tx


async def past_contents(
    tx: Tx, user_nid: int, kind: str, after: Position = 0
) -> list[tuple[Position, bytes | None]]:
    """(position up to which it was so, content as JSON) for positions after one, the oldest first; None: there was none.

    At most `store.MAX_PAST` contents are remembered.
    """
    return await store.find_past(tx, user_nid, kind, after)
