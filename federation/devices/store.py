"""SQL of messages to devices of other servers' users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Pipeline, Tx


class MessageRow(NamedTuple):
    """One EDU that waits."""

    position: Position
    destination: str
    content: bytes
    perishable: bool


def insert(batch: Pipeline, rows: Sequence[MessageRow]) -> None:
    """They wait from now on."""
    batch.execute(
        """
        INSERT INTO federation_device_messages (position, destination, content, perishable)
        SELECT * FROM unnest(%(positions)s::bigint[], %(destinations)s::text[], %(contents)s::bytea[],
                             %(perishable)s::boolean[])
        """,
        positions=[row.position for row in rows],
        destinations=[row.destination for row in rows],
        contents=[row.content for row in rows],
        perishable=[row.perishable for row in rows],
    )


async def list_waiting(tx: Tx, after: Position, upto: Position, limit: int) -> list[tuple[Position, str]]:
    """(position, destination) of the oldest in (after, upto]."""
    return await tx.all(
        """
        SELECT position, destination FROM federation_device_messages
        WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        limit=limit,
    )


async def list_for(tx: Tx, destination: str, bounds: tuple[Position, Position], limit: int) -> list[Position]:
    """Positions of the oldest for one server in (after, upto]."""
    after, upto = bounds
    return await tx.column(
        """
        SELECT position FROM federation_device_messages
        WHERE destination = %(destination)s AND position > %(after)s AND position <= %(upto)s
        ORDER BY position LIMIT %(limit)s
        """,
        destination=destination,
        after=after,
        upto=upto,
        limit=limit,
    )


async def find(tx: Tx, positions: Sequence[Position]) -> list[tuple[Position, bytes]]:
    """(position, content) of those that still wait."""
    return await tx.all(
        """
        SELECT position, content FROM federation_device_messages WHERE position = ANY(%(positions)s::bigint[])
        """,
        positions=list(positions),
    )


async def delete(tx: Tx, positions: Sequence[Position]) -> None:
    """They have arrived."""
    await tx.execute(
        "DELETE FROM federation_device_messages WHERE position = ANY(%(positions)s::bigint[])",
        positions=list(positions),
    )


async def find_overfull(tx: Tx, messages: int, size: int) -> list[tuple[str, int, int]]:
    """(destination, messages, bytes) of servers for which more of either waits."""
    return await tx.all(
        """
        SELECT destination, count(*), sum(octet_length(content))::bigint FROM federation_device_messages
        GROUP BY destination HAVING count(*) > %(messages)s OR sum(octet_length(content)) > %(size)s
        """,
        messages=messages,
        size=size,
    )


async def drop(tx: Tx, destination: str, messages: int, size: int) -> int:
    """So many of what waits for a server, and so many as have that many bytes: the oldest, but perishable ones before all others.
    Returns how many.
    """
    return await tx.execute(
        """
        DELETE FROM federation_device_messages WHERE position IN (
            SELECT position FROM (
                SELECT position, row_number() OVER queue AS number,
                       sum(octet_length(content)) OVER queue - octet_length(content) AS before
                FROM federation_device_messages WHERE destination = %(destination)s
                WINDOW queue AS (ORDER BY perishable DESC, position)
            ) waiting WHERE number <= %(messages)s OR before < %(size)s)
        """,
        destination=destination,
        messages=messages,
        size=size,
    )


# --- introductions -------------------------------------------------------------------------------------------------------


class IntroductionRow(NamedTuple):
    """A user whose devices are told to servers."""

    position: Position
    user_nid: int
    user_id: str
    servers: Sequence[str]


def insert_introductions(batch: Pipeline, rows: Sequence[IntroductionRow]) -> None:
    """They are told from now on."""
    batch.execute(
        """
        INSERT INTO federation_device_introductions (position, user_nid, user_id, servers)
        SELECT position, user_nid, user_id, string_to_array(servers, ',')
        FROM unnest(%(positions)s::bigint[], %(users)s::bigint[], %(names)s::text[], %(servers)s::text[])
             AS row (position, user_nid, user_id, servers)
        """,
        positions=[row.position for row in rows],
        users=[row.user_nid for row in rows],
        names=[row.user_id for row in rows],
        servers=[",".join(row.servers) for row in rows],
    )


async def list_introductions(
    tx: Tx, destination: str | None, bounds: tuple[Position, Position], limit: int
) -> list[IntroductionRow]:
    """The oldest in (after, upto], for one server or for any."""
    after, upto = bounds
    return await tx.rows(
        IntroductionRow,
        """
        SELECT position, user_nid, user_id, servers FROM federation_device_introductions
        WHERE position > %(after)s AND position <= %(upto)s
              AND (%(destination)s::text IS NULL OR %(destination)s::text = ANY(servers))
        ORDER BY position LIMIT %(limit)s
        """,
        destination=destination,
        after=after,
        upto=upto,
        limit=limit,
    )


async def delete_introductions(tx: Tx, upto: Position, limit: int) -> int:
    """Those up to a position that are older than a week. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM federation_device_introductions WHERE position IN (
            SELECT position FROM federation_device_introductions
            WHERE position <= %(upto)s AND written < clock_timestamp() - interval '7 days' LIMIT %(limit)s)
        """,
        upto=upto,
        limit=limit,
    )
