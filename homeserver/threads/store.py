"""SQL of thread subscriptions."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.log.entries import Position
from homeserver.storage.tx import Pipeline, Tx
from homeserver.threads.types import Subscription


def put(batch: Pipeline, rows: Sequence[tuple[int, str, int, bool, bool, Position]]) -> None:
    """(user_nid, thread, room_nid, subscribed, automatic, position), each thread of a user once.

    What a user has said themselves is not made automatic by a device that did not know of it.
    """
    users, threads, rooms, subscribed, automatic, positions = zip(*rows, strict=True)
    batch.execute(
        """
        INSERT INTO thread_subscriptions AS t
               (user_nid, thread, room_nid, subscribed, automatic, position, unsubscribed_at)
        SELECT user_nid, thread, room_nid, subscribed, automatic, position, CASE WHEN subscribed THEN 0 ELSE position END
        FROM unnest(%(users)s::bigint[], %(threads)s::text[], %(rooms)s::bigint[], %(subscribed)s::boolean[],
                    %(automatic)s::boolean[], %(positions)s::bigint[])
             AS row (user_nid, thread, room_nid, subscribed, automatic, position)
        ON CONFLICT (user_nid, thread) DO UPDATE SET
            subscribed = excluded.subscribed,
            automatic = excluded.automatic AND NOT (t.subscribed AND NOT t.automatic),
            position = excluded.position,
            unsubscribed_at = greatest(t.unsubscribed_at, excluded.unsubscribed_at)
        """,
        users=list(users),
        threads=list(threads),
        rooms=list(rooms),
        subscribed=list(subscribed),
        automatic=list(automatic),
        positions=list(positions),
    )


async def find(tx: Tx, user_nid: int, thread: str) -> Subscription | None:
    """None: the user never said anything of it."""
    return await tx.row(
        Subscription,
        """
        SELECT room_nid, thread, subscribed, automatic, position, unsubscribed_at FROM thread_subscriptions
        WHERE user_nid = %(user)s AND thread = %(thread)s
        """,
        user=user_nid,
        thread=thread,
    )


async def count(tx: Tx, user_nid: int) -> int:
    """How many threads a user has said anything of."""
    found: int = await tx.value(
        "SELECT count(*) FROM thread_subscriptions WHERE user_nid = %(user)s", user=user_nid
    )
    return found


async def find_changes(
    tx: Tx, user_nid: int, after: Position, upto: Position, limit: int
) -> list[Subscription]:
    """What is so since (after, upto], the newest first, at most `limit`."""
    return await tx.rows(
        Subscription,
        """
        SELECT room_nid, thread, subscribed, automatic, position, unsubscribed_at FROM thread_subscriptions
        WHERE user_nid = %(user)s AND position > %(after)s AND position <= %(upto)s
        ORDER BY position DESC LIMIT %(limit)s
        """,
        user=user_nid,
        after=after,
        upto=upto,
        limit=limit,
    )


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    """Their account has ended."""
    await tx.execute("DELETE FROM thread_subscriptions WHERE user_nid = %(user)s", user=user_nid)
