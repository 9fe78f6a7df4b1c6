"""SQL of one-time keys: the keys of one upload are one row, a *pack*; those of a device and an algorithm are numbered, and a
*queue*, a row of its own, says how many of them were given out: the first ones.

A row for each key, found by its id and by its turn, cost ten times as much to write; a pack that says itself what was given
out of it is written anew with each claim, as large as its ids are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from homeserver.storage.tx import Later, Pipeline, Tx


class NewKey(NamedTuple):
    """A one-time or fallback key to be stored."""

    algorithm: str
    key_id: str
    key: bytes


class Claimed(NamedTuple):
    """A key that was handed out."""

    user_nid: int
    device_id: str
    algorithm: str
    key_id: str
    key: bytes


class Pack(NamedTuple):
    """A pack of a device, as an upload sees it."""

    first: int
    """The number of its first key among those of the device and the algorithm, from 0: how many came before."""
    algorithm: str
    size: int
    given: int
    """How many of it were given out: the first ones."""
    length: int
    """Bytes of all keys."""
    ids: list[str] | None
    """None if none that was asked about is among them."""


FEW = 8
"""So many ids PostgreSQL looks for itself, in all packs."""


def find_packs(batch: Pipeline, user_nid: int, device_id: str, key_ids: Sequence[str]) -> Later[list[Pack]]:
    """All packs of a device, oldest first; with their ids where those of `key_ids` may be among them."""
    return batch.rows(
        Pack,
        """
        SELECT first, algorithm, cardinality(ids), greatest(0, least(cardinality(ids), q.given - first))::int,
               ends[cardinality(ends)], CASE WHEN %(many)s OR ids && %(ids)s::text[] THEN ids END
        FROM one_time_packs p JOIN one_time_queues q USING (user_nid, device_id, algorithm)
        WHERE user_nid = %(user)s AND device_id = %(device)s
        ORDER BY p.pack_nid
        """,
        user=user_nid,
        device=device_id,
        many=len(key_ids) > FEW,
        ids=list(key_ids) if len(key_ids) <= FEW else [],
    )


async def find_keys(
    tx: Tx, user_nid: int, device_id: str, places: Sequence[tuple[str, int, int]]
) -> dict[tuple[str, int, int], bytes]:
    """(algorithm, first of the pack, place in it, from 0) -> the key that lies there."""
    rows = await tx.all(
        """
        SELECT algorithm, first, place, substring(keys FROM coalesce(ends[place], 0) + 1
                                                  FOR ends[place + 1] - coalesce(ends[place], 0))
        FROM unnest(%(algorithms)s::text[], %(firsts)s::bigint[], %(places)s::int[]) AS w (algorithm, first, place)
        JOIN one_time_packs USING (algorithm, first)
        WHERE user_nid = %(user)s AND device_id = %(device)s
        """,
        user=user_nid,
        device=device_id,
        algorithms=[algorithm for algorithm, _, _ in places],
        firsts=[first for _, first, _ in places],
        places=[place for _, _, place in places],
    )
    return {(algorithm, first, place): key for algorithm, first, place, key in rows}


def insert_pack(batch: Pipeline, user_nid: int, device_id: str, keys: Sequence[NewKey]) -> None:
    """Keys of one algorithm, in their order. Of a device that has ended meanwhile nothing is kept."""
    batch.execute(
        """
        WITH queue AS (
            INSERT INTO one_time_queues AS q (user_nid, device_id, algorithm, total)
            SELECT user_nid, device_id, %(algorithm)s, cardinality(%(ids)s::text[])
            FROM devices WHERE user_nid = %(user)s AND device_id = %(device)s
            ON CONFLICT (user_nid, device_id, algorithm) DO UPDATE SET total = q.total + excluded.total
            RETURNING user_nid, device_id, algorithm, total - cardinality(%(ids)s::text[]) AS first
        )
        INSERT INTO one_time_packs (user_nid, device_id, algorithm, first, ids, ends, keys)
        SELECT user_nid, device_id, algorithm, first, %(ids)s::text[], %(ends)s::int[], %(keys)s FROM queue
        """,
        user=user_nid,
        device=device_id,
        algorithm=keys[0].algorithm,
        ids=[key.key_id for key in keys],
        ends=list(accumulate(len(key.key) for key in keys)),
        keys=b"".join([key.key for key in keys]),
    )


def extend_pack(batch: Pipeline, user_nid: int, device_id: str, pack: Pack, keys: Sequence[NewKey]) -> None:
    """The same, behind the keys of the last pack of their algorithm."""
    ends = accumulate((len(key.key) for key in keys), initial=pack.length)
    batch.execute(
        """
        WITH queue AS (
            UPDATE one_time_queues SET total = total + cardinality(%(ids)s::text[])
            WHERE user_nid = %(user)s AND device_id = %(device)s AND algorithm = %(algorithm)s
        )
        UPDATE one_time_packs
        SET ids = ids || %(ids)s::text[], ends = ends || %(ends)s::int[], keys = keys || %(keys)s::bytea
        WHERE user_nid = %(user)s AND device_id = %(device)s AND algorithm = %(algorithm)s AND first = %(first)s
        """,
        user=user_nid,
        device=device_id,
        algorithm=pack.algorithm,
        first=pack.first,
        ids=[key.key_id for key in keys],
        ends=list(ends)[1:],
        keys=b"".join([key.key for key in keys]),
    )


def delete_packs(batch: Pipeline, user_nid: int, device_id: str, packs: Sequence[tuple[str, int]]) -> None:
    """Keys that were given out, and need not be remembered any more: (algorithm, first)."""
    batch.execute(
        """
        DELETE FROM one_time_packs p
        USING unnest(%(algorithms)s::text[], %(firsts)s::bigint[]) AS w (algorithm, first)
        WHERE p.user_nid = %(user)s AND p.device_id = %(device)s
              AND p.algorithm = w.algorithm AND p.first = w.first
        """,
        user=user_nid,
        device=device_id,
        algorithms=[algorithm for algorithm, _ in packs],
        firsts=[first for _, first in packs],
    )


def delete_all(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """One-time keys of devices."""
    batch.execute(
        """
        WITH queues AS (
            DELETE FROM one_time_queues WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])
        )
        DELETE FROM one_time_packs WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])
        """,
        user=user_nid,
        devices=list(device_ids),
    )


def count_waiting(batch: Pipeline, user_nid: int, device_id: str) -> Later[list[tuple[Any, ...]]]:
    """(algorithm, how many one-time keys of it wait), where any do."""
    return batch.all(
        """
        SELECT algorithm, total - given FROM one_time_queues
        WHERE user_nid = %(user)s AND device_id = %(device)s AND total > given
        """,
        user=user_nid,
        device=device_id,
    )


def claim(batch: Pipeline, wanted: Sequence[tuple[int, str, str]]) -> Later[list[Claimed]]:
    """Take a key per (user_nid, device_id, algorithm), each named once: the oldest one-time key, and only once; where none
    is left the fallback key, which counts as used from then on.

    Within a transaction of the log: nobody else takes keys meanwhile.
    """
    return batch.rows(
        Claimed,
        """
        WITH wanted AS (
            SELECT * FROM unnest(%(users)s::bigint[], %(devices)s::text[], %(algorithms)s::text[])
                AS w (user_nid, device_id, algorithm)
        ), taken AS (
            UPDATE one_time_queues q SET given = q.given + 1 FROM wanted w
            WHERE (q.user_nid, q.device_id, q.algorithm) = (w.user_nid, w.device_id, w.algorithm)
                  AND q.given < q.total
            RETURNING q.user_nid, q.device_id, q.algorithm, q.given AS number
        ), fallback AS (
            SELECT user_nid, device_id, algorithm, f.key_id, f.key
            FROM fallback_keys f JOIN wanted USING (user_nid, device_id, algorithm)
            WHERE NOT EXISTS (SELECT FROM taken t WHERE (t.user_nid, t.device_id, t.algorithm)
                                                      = (f.user_nid, f.device_id, f.algorithm))
        ), marked AS (
            UPDATE fallback_keys f SET used = true FROM fallback b
            WHERE (f.user_nid, f.device_id, f.algorithm) = (b.user_nid, b.device_id, b.algorithm) AND NOT f.used
        )
        SELECT t.user_nid, t.device_id, t.algorithm, ids[place],
               substring(keys FROM coalesce(ends[place - 1], 0) + 1 FOR ends[place] - coalesce(ends[place - 1], 0))
        FROM taken t, LATERAL (
            SELECT (t.number - first)::int AS place, ids, ends, keys FROM one_time_packs p
            WHERE (p.user_nid, p.device_id, p.algorithm) = (t.user_nid, t.device_id, t.algorithm)
                  AND p.first < t.number
            ORDER BY p.first DESC LIMIT 1
        ) pack
        UNION ALL SELECT * FROM fallback
        """,
        users=[row[0] for row in wanted],
        devices=[row[1] for row in wanted],
        algorithms=[row[2] for row in wanted],
    )


def spend_keys(batch: Pipeline) -> Later[tuple[int] | None]:
    """After a restore from a backup. Its one-time keys may have been handed out since; its fallback keys replaced: they
    count as used, so that clients upload new ones. Returns how many one-time keys waited.
    """
    spent = batch.one("SELECT coalesce(sum(total - given), 0)::bigint FROM one_time_queues")
    batch.execute("UPDATE one_time_queues SET given = total WHERE given < total")
    batch.execute("UPDATE fallback_keys SET used = true WHERE NOT used")
    return spent
