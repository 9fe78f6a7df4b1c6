"""Reading of events: what it costs in the database."""

import json

import psycopg

from homeserver.graph.event_cache import SELECT
from tests.support.plans import explain, rows_read

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
            plan = explain(connection, SELECT, {"nids": numbers})
            assert rows_read(plan) <= 3 * len(numbers), json.dumps(plan)
