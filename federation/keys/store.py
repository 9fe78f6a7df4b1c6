"""SQL of the keys of other servers."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.events.signatures import KeyRecord
from homeserver.storage.tx import Tx


class KeyRow(NamedTuple):
    """A key and whose it is."""

    server_name: str
    key_id: str
    public_key: bytes
    valid_until_ts: int
    received_ts: int
    old: bool

    @property
    def record(self) -> KeyRecord:
        """As the pure part knows it."""
        return KeyRecord(*self[1:])


async def find_keys(tx: Tx, server_names: Collection[str]) -> list[KeyRow]:
    """All keys known of these servers."""
    return await tx.rows(
        KeyRow,
        """
        SELECT server_name, key_id, public_key, valid_until_ts, received_ts, old FROM remote_server_keys
        WHERE server_name = ANY(%(names)s)
        """,
        names=list(server_names),
    )


async def insert_response(
    tx: Tx, server_name: str, received_ts: int, valid_until_ts: int, response: bytes
) -> int:
    """Keep an answer; its number."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        INSERT INTO remote_key_responses (server_name, received_ts, valid_until_ts, response)
        VALUES (%(name)s, %(received)s, %(valid)s, %(response)s) RETURNING response_nid
        """,
        name=server_name,
        received=received_ts,
        valid=valid_until_ts,
        response=response,
    )


async def upsert_keys(tx: Tx, response_nid: int, rows: Collection[KeyRow]) -> None:
    """Keys as an answer tells them; not those of which a newer answer was written meanwhile."""
    rows = sorted(rows)  # two processes take the same locks in the same order
    await tx.execute(
        """
        INSERT INTO remote_server_keys AS k
            (server_name, key_id, public_key, valid_until_ts, received_ts, old, response_nid)
        SELECT n.*, %(response)s FROM unnest(
            %(names)s::text[], %(key_ids)s::text[], %(keys)s::bytea[], %(valid)s::bigint[], %(received)s::bigint[],
            %(old)s::boolean[]
        ) n
        ON CONFLICT (server_name, key_id) DO UPDATE SET
            public_key = excluded.public_key, valid_until_ts = excluded.valid_until_ts, received_ts = excluded.received_ts,
            old = excluded.old, response_nid = excluded.response_nid
            WHERE k.received_ts <= excluded.received_ts
        """,
        response=response_nid,
        names=[row.server_name for row in rows],
        key_ids=[row.key_id for row in rows],
        keys=[row.public_key for row in rows],
        valid=[row.valid_until_ts for row in rows],
        received=[row.received_ts for row in rows],
        old=[row.old for row in rows],
    )


async def delete_surplus_keys(tx: Tx, server_name: str, most: int) -> None:
    """Of a server so many keys are kept: those that were told of last."""
    await tx.execute(
        """
        DELETE FROM remote_server_keys k USING (
            SELECT key_id FROM remote_server_keys WHERE server_name = %(name)s
            ORDER BY received_ts DESC, old, valid_until_ts DESC, key_id OFFSET %(most)s
        ) s
        WHERE k.server_name = %(name)s AND k.key_id = s.key_id
        """,
        name=server_name,
        most=most,
    )


async def list_servers(tx: Tx, after: str, limit: int) -> list[str]:
    """Servers of which keys are known, in the order of their names, after one of them."""
    return await tx.column(
        """
        SELECT DISTINCT server_name FROM remote_server_keys WHERE server_name > %(after)s
        ORDER BY server_name LIMIT %(limit)s
        """,
        after=after,
        limit=limit,
    )


async def delete_unused(tx: Tx, server_names: Collection[str], received_before: int) -> int:
    """Keys of those of the servers of which no user was ever seen, so that there is no event of theirs, and that have not told of
    their keys since (Unix ms); how many.
    """
    deleted = await tx.execute(
        """
        DELETE FROM remote_server_keys k WHERE server_name = ANY(%(names)s)
            AND NOT EXISTS (
                SELECT FROM users u WHERE substr(u.user_id, strpos(u.user_id, ':') + 1) = k.server_name
            )
            AND NOT EXISTS (
                SELECT FROM remote_server_keys o WHERE o.server_name = k.server_name AND o.received_ts >= %(before)s
            )
        """,
        names=list(server_names),
        before=received_before,
    )
    await tx.execute(
        """
        DELETE FROM remote_key_responses r WHERE server_name = ANY(%(names)s)
            AND NOT EXISTS (SELECT FROM remote_server_keys k WHERE k.response_nid = r.response_nid)
        """,
        names=list(server_names),
    )
    return deleted


async def count_keys(tx: Tx, most: int) -> int:
    """Of all servers, counted up to a number."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        "SELECT count(*) FROM (SELECT FROM remote_server_keys LIMIT %(most)s) k", most=most
    )


async def delete_responses(tx: Tx, server_name: str) -> None:
    """Answers of a server that no key is known from any more."""
    await tx.execute(
        """
        DELETE FROM remote_key_responses r WHERE server_name = %(name)s
            AND NOT EXISTS (SELECT FROM remote_server_keys k WHERE k.response_nid = r.response_nid)
        """,
        name=server_name,
    )


class ResponseRow(NamedTuple):
    """An answer of a server, and the keys that are known from it."""

    server_name: str
    received_ts: int
    valid_until_ts: int
    response: bytes
    key_ids: list[str]


async def find_responses(tx: Tx, server_names: Collection[str]) -> list[ResponseRow]:
    """The newest answers of these servers, some of each."""
    return await tx.rows(
        ResponseRow,
        """
        SELECT r.* FROM unnest(%(names)s::text[]) AS n (name) CROSS JOIN LATERAL (
            SELECT server_name, received_ts, valid_until_ts, response,
                   (SELECT array_agg(key_id) FROM remote_server_keys k WHERE k.response_nid = a.response_nid)
            FROM remote_key_responses a
            WHERE a.server_name = n.name AND EXISTS (SELECT FROM remote_server_keys k WHERE k.response_nid = a.response_nid)
            ORDER BY received_ts DESC LIMIT 5
        ) r
        """,
        names=list(server_names),
    )
