"""SQL of to-device messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx


def insert(batch: Pipeline, rows: Sequence[tuple[int, str, Position, bytes, bool]]) -> None:
    """(user_nid, device_id, position, message, perishable); of devices that have ended meanwhile nothing is kept."""
    batch.execute(
        """
        INSERT INTO to_device (user_nid, device_id, position, message, perishable)
        SELECT row.* FROM unnest(%(users)s::bigint[], %(devices)s::text[], %(positions)s::bigint[],
                                 %(messages)s::bytea[], %(perishable)s::boolean[])
                     AS row (user_nid, device_id, position, message, perishable)
        WHERE EXISTS (SELECT 1 FROM devices d WHERE d.user_nid = row.user_nid AND d.device_id = row.device_id)
        """,
        users=[row[0] for row in rows],
        devices=[row[1] for row in rows],
        positions=[row[2] for row in rows],
        messages=[row[3] for row in rows],
        perishable=[row[4] for row in rows],
    )


class Page(NamedTuple):
    """How much is given at once."""

    messages: int
    size: int
    """Bytes of all messages but the last."""


async def find(  # noqa: PLR0917  # one value each, called in one place
    tx: Tx, user_nid: int, device_id: str, after: Position, upto: Position, page: Page
) -> list[tuple[Position, bytes]]:
    """The first messages in (after, upto], in order: as many as a page holds, and at least one."""
    return await tx.all(
        """
        SELECT position, message FROM (
            SELECT position, message,
                   sum(octet_length(message)) OVER (ORDER BY position) - octet_length(message) AS before
            FROM (
                SELECT position, message FROM to_device
                WHERE user_nid = %(user)s AND device_id = %(device)s
                  AND position > %(after)s AND position <= %(upto)s
                ORDER BY position LIMIT %(limit)s
            ) waiting
        ) summed WHERE before < %(size)s ORDER BY position
        """,
        user=user_nid,
        device=device_id,
        after=after,
        upto=upto,
        limit=page.messages,
        size=page.size,
    )


def find_bounds(batch: Pipeline, user_nid: int, device_id: str) -> Later[tuple[Position, Position] | None]:
    """Positions of the first and the last message that wait; zeros if none does."""
    return batch.one(
        """
        SELECT coalesce(min(position), 0), coalesce(max(position), 0) FROM to_device
        WHERE user_nid = %(user)s AND device_id = %(device)s
        """,
        user=user_nid,
        device=device_id,
    )


def delete_upto(batch: Pipeline, user_nid: int, device_id: str, upto: Position) -> None:
    """Messages that have arrived."""
    batch.execute(
        """
        DELETE FROM to_device WHERE user_nid = %(user)s AND device_id = %(device)s AND position <= %(upto)s
        """,
        user=user_nid,
        device=device_id,
        upto=upto,
    )


def delete_of_devices(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """Whatever waits for devices that end."""
    batch.execute(
        "DELETE FROM to_device WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=list(device_ids),
    )


async def find_devices(
    tx: Tx, user_nids: Sequence[int], named: Sequence[tuple[int, str]]
) -> list[tuple[int, str]]:
    """(user_nid, device_id) of all devices of these users, and of those of other users that are named, where they exist."""
    return await tx.all(
        """
        SELECT user_nid, device_id FROM devices WHERE user_nid = ANY(%(users)s::bigint[])
        UNION ALL
        SELECT d.user_nid, d.device_id
        FROM unnest(%(named_users)s::bigint[], %(named_devices)s::text[]) AS named (user_nid, device_id)
        JOIN devices d ON d.user_nid = named.user_nid AND d.device_id = named.device_id
        """,
        users=list(user_nids),
        named_users=[user_nid for user_nid, _ in named],
        named_devices=[device_id for _, device_id in named],
    )


async def find_overfull(tx: Tx, messages: int, size: int) -> list[tuple[int, str, int, int]]:
    """(user_nid, device_id, messages, bytes) of devices for which more of either waits."""
    return await tx.all(
        """
        SELECT user_nid, device_id, count(*), sum(octet_length(message))::bigint FROM to_device
        GROUP BY user_nid, device_id
        HAVING count(*) > %(messages)s OR sum(octet_length(message)) > %(size)s
        """,
        messages=messages,
        size=size,
    )


async def find_overfull_users(tx: Tx, size: int) -> list[tuple[int, int]]:
    """(user_nid, bytes) of people for whose devices together more waits."""
    return await tx.all(
        """
        SELECT user_nid, sum(octet_length(message))::bigint FROM to_device
        GROUP BY user_nid HAVING sum(octet_length(message)) > %(size)s
        """,
        size=size,
    )


async def drop(tx: Tx, user_nid: int, device_id: str | None, messages: int, size: int) -> int:
    """So many of what waits for a device (None: for any of the user), and so many as have that many bytes: the oldest, but
    perishable ones before all others. Returns how many.
    """
    return await tx.execute(
        """
        DELETE FROM to_device d USING (
            SELECT device_id, position, row_number() OVER queue AS number,
                   sum(octet_length(message)) OVER queue - octet_length(message) AS before
            FROM to_device
            WHERE user_nid = %(user)s AND (%(any)s OR device_id = %(device)s)
            WINDOW queue AS (ORDER BY perishable DESC, position, device_id)
        ) waiting
        WHERE d.user_nid = %(user)s AND d.device_id = waiting.device_id AND d.position = waiting.position
              AND (waiting.number <= %(messages)s OR waiting.before < %(size)s)
        """,
        user=user_nid,
        any=device_id is None,
        device=device_id or "",
        messages=messages,
        size=size,
    )


async def find_of_appservices(  # one value each, called in one place
    tx: Tx, others: Sequence[str], after: Position, upto: Position, limit: int
) -> list[tuple[Position, int, str, bytes]]:
    """(position, user_nid, device_id, message) of what waits in (after, upto] for accounts that application services have
    made, and for those of `others` (user ids); the oldest first.
    """
    return await tx.all(
        """
        WITH theirs AS MATERIALIZED (
            SELECT user_nid FROM accounts WHERE appservice_id IS NOT NULL
            UNION SELECT user_nid FROM users WHERE user_id = ANY(%(others)s::text[]))
        SELECT position, user_nid, device_id, message FROM theirs JOIN devices USING (user_nid)
             JOIN to_device USING (user_nid, device_id)
        WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
        """,
        others=list(others),
        after=after,
        upto=upto,
        limit=limit,
    )
