"""SQL of one-time keys: the keys of one upload are one row, a *pack*, and are given out from its front.

A row for each key, found by its id and by its turn, cost ten times as much to write.
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

    nid: int
    algorithm: str
    size: int
    given: int
    """How many were given out: the first ones."""
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
        SELECT pack_nid, algorithm, cardinality(ids), given, ends[cardinality(ends)],
               CASE WHEN %(many)s OR ids && %(ids)s::text[] THEN ids END
        FROM one_time_packs WHERE user_nid = %(user)s AND device_id = %(device)s
        ORDER BY pack_nid
        """,
        user=user_nid,
        device=device_id,
        many=len(key_ids) > FEW,
        ids=list(key_ids) if len(key_ids) <= FEW else [],
    )


async def find_keys(
    tx: Tx, user_nid: int, device_id: str, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    """(pack_nid, place in it, from 0) -> the key that lies there."""
    rows = await tx.all(
        """
        SELECT pack_nid, place, substring(keys FROM coalesce(ends[place], 0) + 1
                                          FOR ends[place + 1] - coalesce(ends[place], 0))
        FROM unnest(%(packs)s::bigint[], %(places)s::int[]) AS w (pack_nid, place)
        JOIN one_time_packs USING (pack_nid)
        WHERE user_nid = %(user)s AND device_id = %(device)s
        """,
        user=user_nid,
        device=device_id,
        packs=[pack for pack, _ in places],
        places=[place for _, place in places],
    )
    return {(pack, place): key for pack, place, key in rows}


def insert_pack(batch: Pipeline, user_nid: int, device_id: str, keys: Sequence[NewKey]) -> None:
    """Keys of one algorithm, in their order. Of a device that has ended meanwhile nothing is kept."""
    batch.execute(
        """
        INSERT INTO one_time_packs (user_nid, device_id, algorithm, ids, ends, keys)
        SELECT user_nid, device_id, %(algorithm)s, %(ids)s::text[], %(ends)s::int[], %(keys)s
        FROM devices WHERE user_nid = %(user)s AND device_id = %(device)s
        """,
        user=user_nid,
        device=device_id,
        algorithm=keys[0].algorithm,
        ids=[key.key_id for key in keys],
        ends=list(accumulate(len(key.key) for key in keys)),
        keys=b"".join([key.key for key in keys]),
    )


def extend_pack(batch: Pipeline, user_nid: int, device_id: str, pack: Pack, keys: Sequence[NewKey]) -> None:
    """The same, behind the keys of a pack."""
    ends = accumulate((len(key.key) for key in keys), initial=pack.length)
    batch.execute(
        """
        UPDATE one_time_packs
        SET ids = ids || %(ids)s::text[], ends = ends || %(ends)s::int[], keys = keys || %(keys)s::bytea, spent = false
        WHERE user_nid = %(user)s AND device_id = %(device)s AND pack_nid = %(pack)s
        """,
        user=user_nid,
        device=device_id,
        pack=pack.nid,
        ids=[key.key_id for key in keys],
        ends=list(ends)[1:],
        keys=b"".join([key.key for key in keys]),
    )


def delete_packs(batch: Pipeline, user_nid: int, device_id: str, pack_nids: Sequence[int]) -> None:
    """Keys that were given out, and need not be remembered any more."""
    batch.execute(
        """
        DELETE FROM one_time_packs
        WHERE user_nid = %(user)s AND device_id = %(device)s AND pack_nid = ANY(%(packs)s::bigint[]) AND spent
        """,
        user=user_nid,
        device=device_id,
        packs=list(pack_nids),
    )


def delete_all(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """One-time keys of devices."""
    batch.execute(
        "DELETE FROM one_time_packs WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=list(device_ids),
    )


def count_waiting(batch: Pipeline, user_nid: int, device_id: str) -> Later[list[tuple[Any, ...]]]:
    """(algorithm, how many one-time keys of it wait)."""
    return batch.all(
        """
        SELECT algorithm, sum(cardinality(ids) - given) FROM one_time_packs
        WHERE user_nid = %(user)s AND device_id = %(device)s AND NOT spent GROUP BY algorithm
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
        ), picked AS MATERIALIZED (
            SELECT w.user_nid, w.device_id, first.pack_nid FROM wanted w, LATERAL (
                SELECT p.pack_nid FROM one_time_packs p
                WHERE p.user_nid = w.user_nid AND p.device_id = w.device_id AND p.algorithm = w.algorithm
                  AND NOT p.spent
                ORDER BY p.pack_nid LIMIT 1
            ) first
        ), once AS (
            UPDATE one_time_packs p SET given = given + 1, spent = given + 1 = cardinality(ids)
            FROM picked
            WHERE (p.user_nid, p.device_id, p.pack_nid) = (picked.user_nid, picked.device_id, picked.pack_nid)
            RETURNING p.user_nid, p.device_id, algorithm, ids[given] AS key_id,
                      substring(keys FROM coalesce(ends[given - 1], 0) + 1
                                FOR ends[given] - coalesce(ends[given - 1], 0)) AS key
        ), fallback AS (
            SELECT user_nid, device_id, algorithm, f.key_id, f.key
            FROM fallback_keys f JOIN wanted USING (user_nid, device_id, algorithm)
            WHERE NOT EXISTS (SELECT FROM once o WHERE (o.user_nid, o.device_id, o.algorithm)
                                                     = (f.user_nid, f.device_id, f.algorithm))
        ), marked AS (
            UPDATE fallback_keys f SET used = true FROM fallback b
            WHERE (f.user_nid, f.device_id, f.algorithm) = (b.user_nid, b.device_id, b.algorithm) AND NOT f.used
        )
        SELECT * FROM once UNION ALL SELECT * FROM fallback
        """,
        users=[row[0] for row in wanted],
        devices=[row[1] for row in wanted],
        algorithms=[row[2] for row in wanted],
    )


def spend_keys(batch: Pipeline) -> Later[tuple[int] | None]:
    """After a restore from a backup. Its one-time keys may have been handed out since; its fallback keys replaced: they
    count as used, so that clients upload new ones. Returns how many one-time keys waited.
    """
    spent = batch.one("SELECT coalesce(sum(cardinality(ids) - given), 0) FROM one_time_packs WHERE NOT spent")
    batch.execute("UPDATE one_time_packs SET given = cardinality(ids), spent = true WHERE NOT spent")
    batch.execute("UPDATE fallback_keys SET used = true WHERE NOT used")
    return spent
