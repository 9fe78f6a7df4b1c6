"""How events are read from the database."""

from __future__ import annotations

import json

import psycopg

from homeserver.graph.event_cache import SELECT

EVENTS = 20_000


def test_reading_events_costs_the_same_whatever_was_sent_lately(database: str) -> None:
    """No table is read from end to end: that of transaction ids, above all, has a row for each message of a day."""
    with psycopg.connect(database) as connection:
        connection.execute(
            """
            INSERT INTO events (event_nid, room_nid, sender_nid, state_nid, origin_server_ts, event_id, pdu)
            SELECT n, 1, 1, 0, n, '$' || n, '{}' FROM generate_series(1, %(events)s) n
            """,
            {"events": EVENTS},
        )
        connection.execute(
            """
            INSERT INTO once (key, position, user_nid, device_id, txn_id, written_ms)
            SELECT n::text::bytea, n, 1, 'PHONE', n::text, n FROM generate_series(1, %(events)s) n
            """,
            {"events": EVENTS},
        )
        connection.execute("ANALYZE events, once")
        for numbers in ([EVENTS], list(range(EVENTS - 200, EVENTS))):
            plan = connection.execute(
                "EXPLAIN (ANALYZE, FORMAT JSON) " + SELECT, {"nids": numbers}
            ).fetchone()
            assert plan is not None
            assert _rows_read(plan[0][0]["Plan"]) <= 3 * len(numbers), json.dumps(plan[0])


def _rows_read(plan: dict[str, object]) -> float:
    """By all scans together."""
    inner = plan.get("Plans", [])
    assert isinstance(inner, list)
    below = sum(_rows_read(each) for each in inner)
    if "Relation Name" not in plan:
        return below
    removed = plan.get("Rows Removed by Filter", 0)
    return float(plan["Actual Rows"] + removed) * float(plan["Actual Loops"]) + below  # type: ignore[operator, arg-type]
