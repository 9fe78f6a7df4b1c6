"""SQL of device tracking for clients that were away for long: what rooms were, for whom, at two positions."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline

ROWS_AT_ONCE = 2_000
"""Moves that are read in one turn of the event loop."""


def find_joined(batch: Pipeline, user_nid: int, at: Position) -> Later[list[tuple[int, int]]]:
    """(room_nid, membership) of a user when the log was at `at`."""
    return batch.all(
        """
        SELECT DISTINCT ON (room_nid) room_nid, membership FROM memberships
        WHERE user_nid = %(user)s AND event_nid <= %(at)s ORDER BY room_nid, event_nid DESC
        """,
        user=user_nid,
        at=at,
    )


def find_encrypted(
    batch: Pipeline, room_nids: Collection[int], key_nid: int, at: Position
) -> Later[list[tuple[int]]]:
    """Those of the rooms that were encrypted when the log was at `at`: by what the first change since has replaced, or as
    they are.
    """
    return batch.all(
        """
        WITH news AS (
            SELECT e.room_nid, e.event_nid AS position, e.replaces IS NOT NULL AS before FROM events e
            WHERE e.room_nid = ANY(%(rooms)s::bigint[]) AND e.key_nid = %(key)s AND e.event_nid > %(at)s AND e.flags = 0
              AND NOT EXISTS (SELECT 1 FROM state_resets r WHERE r.room_nid = e.room_nid AND r.key_nid = e.key_nid
                                                           AND r.position = e.event_nid)
            UNION ALL
            SELECT room_nid, position, event_nid = 0 FROM state_resets
            WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = %(key)s AND changed AND position > %(at)s
        ), first AS (
            SELECT DISTINCT ON (room_nid) room_nid, before FROM news ORDER BY room_nid, position
        )
        SELECT row.room_nid FROM unnest(%(rooms)s::bigint[]) AS row (room_nid) LEFT JOIN first USING (room_nid)
        WHERE coalesce(first.before, EXISTS (SELECT 1 FROM current_state c
                                             WHERE c.room_nid = row.room_nid AND c.key_nid = %(key)s))
        """,
        rooms=list(room_nids),
        key=key_nid,
        at=at,
    )


def find_moves(
    batch: Pipeline, room_nids: Collection[int], since: Position, upto: Position
) -> Later[Iterator[list[tuple[int, str, bool, bool]]]]:
    """(room_nid, user_id, whether joined at `since`, whether joined at `upto`) of everybody whose membership in these rooms has
    begun after `since`; some at a time.
    """
    return batch.pieces(
        ROWS_AT_ONCE,
        """
        WITH moved AS (
            SELECT DISTINCT room_nid, user_nid FROM memberships
            WHERE room_nid = ANY(%(rooms)s::bigint[]) AND event_nid > %(since)s
        )
        SELECT m.room_nid, u.user_id, coalesce(was.membership = 1, false), coalesce(now.membership = 1, false)
        FROM moved m JOIN users u USING (user_nid)
        LEFT JOIN LATERAL (SELECT membership FROM memberships x
                           WHERE x.user_nid = m.user_nid AND x.room_nid = m.room_nid AND x.event_nid <= %(since)s
                           ORDER BY event_nid DESC LIMIT 1) was ON true
        LEFT JOIN LATERAL (SELECT membership FROM memberships x
                           WHERE x.user_nid = m.user_nid AND x.room_nid = m.room_nid AND x.event_nid <= %(upto)s
                           ORDER BY event_nid DESC LIMIT 1) now ON true
        """,
        rooms=list(room_nids),
        since=since,
        upto=upto,
    )
