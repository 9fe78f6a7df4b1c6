"""SQL of pushers, and of what their delivery has to find again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

import msgspec

from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId
from homeserver.push.pushers.types import EMAIL, HTTP, Details, Pusher
from homeserver.storage.tx import Pipeline, Tx

_COLUMNS: LiteralString = "user_nid, app_id, pushkey, kind, device_id, enabled, set_ms, url, details"


def _pusher(row: Sequence[Any]) -> Pusher:
    return Pusher._make([*row[:-1], msgspec.json.decode(row[-1], type=Details)])


async def list_of(tx: Tx, user_nids: Sequence[int]) -> list[Pusher]:
    """All pushers of some users, by user and in the order in which they were set."""
    rows = await tx.all(
        "SELECT "  # noqa: S608  # a literal
        + _COLUMNS
        + " FROM pushers WHERE user_nid = ANY(%(users)s::bigint[]) ORDER BY user_nid, set_ms, app_id, pushkey",
        users=list(user_nids),
    )
    return [_pusher(row) for row in rows]


async def find_others(tx: Tx, user_nid: int, app_id: str, pushkey: str) -> list[int]:
    """user_nids of others who have the same."""
    return await tx.column(
        """
        SELECT user_nid FROM pushers
        WHERE app_id = %(app)s AND pushkey = %(key)s AND user_nid <> %(user)s LIMIT 1000
        """,
        app=app_id,
        key=pushkey,
        user=user_nid,
    )


def upsert(batch: Pipeline, pusher: Pusher) -> None:
    """Keep a pusher in place of the one before."""
    batch.execute(
        """
        INSERT INTO pushers (user_nid, app_id, pushkey, kind, device_id, enabled, set_ms, url, details)
        VALUES (%(user)s, %(app)s, %(key)s, %(kind)s, %(device)s, %(enabled)s, %(now)s, %(url)s, %(details)s)
        ON CONFLICT (user_nid, app_id, pushkey) DO UPDATE
            SET kind = excluded.kind, device_id = excluded.device_id, enabled = excluded.enabled,
                set_ms = excluded.set_ms, url = excluded.url, details = excluded.details
        """,
        user=pusher.user_nid,
        app=pusher.app_id,
        key=pusher.pushkey,
        kind=pusher.kind,
        device=pusher.device_id,
        enabled=pusher.enabled,
        now=pusher.set_ms,
        url=pusher.url,
        details=msgspec.json.encode(pusher.details),
    )


def delete(batch: Pipeline, user_nids: Sequence[int], pairs: Sequence[tuple[str, str]]) -> None:
    """Pushers of some users, by (app_id, pushkey)."""
    batch.execute(
        """
        DELETE FROM pushers p USING unnest(%(apps)s::text[], %(keys)s::text[]) AS gone (app_id, pushkey)
        WHERE p.user_nid = ANY(%(users)s::bigint[]) AND p.app_id = gone.app_id AND p.pushkey = gone.pushkey
        """,
        users=list(user_nids),
        apps=[app for app, _ in pairs],
        keys=[key for _, key in pairs],
    )


def delete_unchanged(batch: Pipeline, gone: Sequence[Pusher]) -> None:
    """These pushers of one user, unless they were set again meanwhile."""
    batch.execute(
        """
        DELETE FROM pushers p
        USING unnest(%(apps)s::text[], %(keys)s::text[], %(set)s::bigint[]) AS gone (app_id, pushkey, set_ms)
        WHERE p.user_nid = %(user)s AND p.app_id = gone.app_id AND p.pushkey = gone.pushkey
              AND p.set_ms = gone.set_ms
        """,
        user=gone[0].user_nid,
        apps=[each.app_id for each in gone],
        keys=[each.pushkey for each in gone],
        set=[each.set_ms for each in gone],
    )


def delete_of_devices(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """Those that sessions of a user have set."""
    batch.execute(
        "DELETE FROM pushers WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])",
        user=user_nid,
        devices=list(device_ids),
    )


def delete_of_user(batch: Pipeline, user_nid: int) -> None:
    """All of a user."""
    batch.execute("DELETE FROM pushers WHERE user_nid = %(user)s", user=user_nid)


class Owner(NamedTuple):
    """A user who has pushers, and one gateway or address of theirs."""

    user_nid: int
    user_id: UserId
    url: str


async def list_owners(tx: Tx, user_nids: Sequence[int] | None) -> list[Owner]:
    """Users with enabled pushers, once per gateway or address: of these, or of all (None)."""
    return await tx.rows(
        Owner,
        """
        SELECT DISTINCT user_nid, user_id, url FROM pushers JOIN users USING (user_nid)
        WHERE enabled AND kind = ANY(%(kinds)s::text[]) AND (%(users)s::bigint[] IS NULL OR user_nid = ANY(%(users)s::bigint[]))
        """,
        kinds=[HTTP, EMAIL],
        users=None if user_nids is None else list(user_nids),
    )


class ReadRow(NamedTuple):
    """A user who has pushers has read something."""

    position: Position
    user_nid: int


async def list_receipts(tx: Tx, after: Position, upto: Position, limit: int) -> list[ReadRow]:
    """Receipts in (after, upto] of users who have pushers, in order."""
    return await tx.rows(
        ReadRow,
        """
        SELECT r.position, r.user_nid
        FROM (SELECT DISTINCT c.room_nid FROM pushers p JOIN current_state c USING (user_nid)) rooms,
             LATERAL (SELECT position, user_nid FROM receipts
                      WHERE room_nid = rooms.room_nid AND position > %(after)s AND position <= %(upto)s) r
        WHERE EXISTS (SELECT 1 FROM pushers p WHERE p.user_nid = r.user_nid)
        ORDER BY r.position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        limit=limit,
    )
