"""SQL of device lists of other servers' users."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from homeserver.e2ee.types import DeviceRow, ListRow, SigningRow
from homeserver.storage.tx import Later, Pipeline, Tx


def find_fresh(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[tuple[int]]]:
    """Those of the users whose lists are kept as their servers would tell them."""
    return batch.all(
        "SELECT user_nid FROM remote_device_lists WHERE user_nid = ANY(%(users)s::bigint[]) AND fresh",
        users=list(user_nids),
    )


async def find_lists(tx: Tx, user_nids: Sequence[int]) -> list[ListRow]:
    """Those of the users of whom something was asked before."""
    return await tx.rows(
        ListRow,
        """
        SELECT user_nid, version, fresh, stream_id FROM remote_device_lists WHERE user_nid = ANY(%(users)s::bigint[])
        """,
        users=list(user_nids),
    )


async def find_sharing(tx: Tx, user_nids: Sequence[int]) -> list[int]:
    """Those of the users who are in a room with somebody who has an account here."""
    return await tx.column(
        """
        SELECT w.user_nid FROM unnest(%(users)s::bigint[]) AS w (user_nid)
        WHERE EXISTS (SELECT 1 FROM current_state theirs JOIN current_state ours USING (room_nid)
                      JOIN accounts a ON a.user_nid = ours.user_nid
                      WHERE theirs.user_nid = w.user_nid AND theirs.membership = 1 AND ours.membership = 1)
        """,
        users=list(user_nids),
    )


async def begin(tx: Tx, user_nids: Sequence[int]) -> list[ListRow]:
    """Lists that are about to be fetched: as they are, made where there are none."""
    await tx.execute(
        """
        INSERT INTO remote_device_lists (user_nid, version, fresh)
        SELECT user_nid, 0, false FROM unnest(%(users)s::bigint[]) AS w (user_nid)
        ON CONFLICT (user_nid) DO NOTHING
        """,
        users=sorted(user_nids),
    )
    return await find_lists(tx, user_nids)


async def settle(tx: Tx, rows: Sequence[tuple[int, int, int | None]]) -> set[int]:
    """(user_nid, version when it was asked for, stream_id) of lists that have come: they are fresh, unless something has
    happened to them meanwhile. Returns those that are. A list is locked from here on.
    """
    ordered = sorted(rows)
    return set(
        await tx.column(
            """
            UPDATE remote_device_lists l
            SET fresh = true, stream_id = coalesce(w.stream_id, CASE WHEN l.fresh THEN l.stream_id END)
            FROM unnest(%(users)s::bigint[], %(versions)s::bigint[], %(streams)s::bigint[])
                 AS w (user_nid, version, stream_id)
            WHERE l.user_nid = w.user_nid AND l.version = w.version
            RETURNING l.user_nid
            """,
            users=[row[0] for row in ordered],
            versions=[row[1] for row in ordered],
            streams=[row[2] for row in ordered],
        )
    )


def find_devices(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[DeviceRow]]:
    """All devices that are kept of these users."""
    return batch.rows(
        DeviceRow,
        """
        SELECT user_nid, device_id, keys, display_name FROM remote_devices WHERE user_nid = ANY(%(users)s::bigint[])
        """,
        users=list(user_nids),
    )


def replace_devices(batch: Pipeline, user_nids: Collection[int], rows: Sequence[DeviceRow]) -> None:
    """What is kept of these users' devices is this."""
    batch.execute(
        "DELETE FROM remote_devices WHERE user_nid = ANY(%(users)s::bigint[])", users=sorted(user_nids)
    )
    batch.execute(
        """
        INSERT INTO remote_devices (user_nid, device_id, keys, display_name)
        SELECT * FROM unnest(%(users)s::bigint[], %(devices)s::text[], %(keys)s::bytea[], %(names)s::text[])
        """,
        users=[row.user_nid for row in rows],
        devices=[row.device_id for row in rows],
        keys=[row.keys for row in rows],
        names=[row.display_name for row in rows],
    )


def replace_signing_keys(batch: Pipeline, user_nids: Collection[int], rows: Sequence[SigningRow]) -> None:
    """What is kept of these users' cross-signing keys is this."""
    batch.execute(
        "DELETE FROM cross_signing_keys WHERE user_nid = ANY(%(users)s::bigint[])", users=sorted(user_nids)
    )
    upsert_signing_keys(batch, rows)


def upsert_signing_keys(batch: Pipeline, rows: Sequence[SigningRow]) -> None:
    """New cross-signing keys of users whose lists are kept; of others nothing is."""
    batch.execute(
        """
        INSERT INTO cross_signing_keys (user_nid, usage, public_key, key)
        SELECT w.* FROM unnest(%(users)s::bigint[], %(usages)s::smallint[], %(publics)s::text[], %(keys)s::bytea[])
                        AS w (user_nid, usage, public_key, key)
        JOIN remote_device_lists l ON l.user_nid = w.user_nid AND l.fresh
        ON CONFLICT (user_nid, usage) DO UPDATE SET public_key = excluded.public_key, key = excluded.key
        """,
        users=[row.user_nid for row in rows],
        usages=[row.usage for row in rows],
        publics=[row.public_key for row in rows],
        keys=[row.key for row in rows],
    )


def advance(batch: Pipeline, user_nid: int, before: int | None, stream_id: int) -> None:
    """A change has come that follows the version `before`; nothing happens where that is not what is kept."""
    batch.execute(
        """
        UPDATE remote_device_lists SET stream_id = %(stream)s, version = version + 1
        WHERE user_nid = %(user)s AND fresh AND stream_id = %(before)s::bigint
        """,
        user=user_nid,
        before=before,
        stream=stream_id,
    )


def upsert_device(batch: Pipeline, device: DeviceRow, stream_id: int, most: int) -> None:
    """A device of a list that is at this version; at most so many of a user."""
    batch.execute(
        """
        INSERT INTO remote_devices (user_nid, device_id, keys, display_name)
        SELECT user_nid, %(device)s, %(keys)s, %(name)s::text FROM remote_device_lists
        WHERE user_nid = %(user)s AND fresh AND stream_id = %(stream)s
              AND (SELECT count(*) FROM remote_devices d WHERE d.user_nid = %(user)s) < %(most)s
        ON CONFLICT (user_nid, device_id) DO UPDATE SET keys = excluded.keys, display_name = excluded.display_name
        """,
        user=device.user_nid,
        device=device.device_id,
        keys=device.keys,
        name=device.display_name,
        stream=stream_id,
        most=most,
    )


def delete_device(batch: Pipeline, user_nid: int, device_id: str, stream_id: int) -> None:
    """A device that is no more, of a list that is at this version."""
    batch.execute(
        """
        DELETE FROM remote_devices WHERE user_nid = %(user)s AND device_id = %(device)s
              AND EXISTS (SELECT 1 FROM remote_device_lists
                          WHERE user_nid = %(user)s AND fresh AND stream_id = %(stream)s)
        """,
        user=user_nid,
        device=device_id,
        stream=stream_id,
    )


def distrust_unless(batch: Pipeline, user_nid: int, stream_id: int) -> Later[list[tuple[bool]]]:
    """What is kept is not at this version: something was missed, and what was asked for before is not to be kept. Returns, if so,
    whether it was fresh until now.
    """
    return batch.all(
        """
        UPDATE remote_device_lists l SET fresh = false, version = version + 1
        FROM (SELECT user_nid, fresh FROM remote_device_lists WHERE user_nid = %(user)s FOR UPDATE) was
        WHERE l.user_nid = was.user_nid AND (NOT l.fresh OR l.stream_id IS DISTINCT FROM %(stream)s::bigint)
        RETURNING was.fresh
        """,
        user=user_nid,
        stream=stream_id,
    )


def touch(batch: Pipeline, user_nid: int) -> None:
    """Something has changed: what was asked for before is not to be kept."""
    batch.execute(
        "UPDATE remote_device_lists SET version = version + 1 WHERE user_nid = %(user)s", user=user_nid
    )


def distrust(batch: Pipeline, user_nids: Sequence[int]) -> None:
    """What is kept of these users may be wrong."""
    batch.execute(
        """
        UPDATE remote_device_lists SET fresh = false, version = version + 1
        WHERE user_nid IN (SELECT user_nid FROM remote_device_lists
                           WHERE user_nid = ANY(%(users)s::bigint[]) ORDER BY user_nid FOR UPDATE)
        """,
        users=list(user_nids),
    )


async def find_kept_in(tx: Tx, room_nids: Sequence[int]) -> list[int]:
    """Users in these rooms of whom something was asked."""
    return await tx.column(
        """
        SELECT DISTINCT l.user_nid FROM current_state c JOIN remote_device_lists l USING (user_nid)
        WHERE c.room_nid = ANY(%(rooms)s::bigint[])
        """,
        rooms=list(room_nids),
    )
