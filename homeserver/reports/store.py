"""SQL of reports."""

from __future__ import annotations

from homeserver.reports.types import NewReport, Report, Wanted
from homeserver.storage.tx import Tx


async def count_of(tx: Tx, reporter_nid: int, limit: int) -> int:
    """How many of somebody's reports are kept, counted up to a limit."""
    found: int = await tx.value(
        "SELECT count(*) FROM (SELECT 1 FROM reports WHERE reporter_nid = %(reporter)s LIMIT %(limit)s) AS counted",
        reporter=reporter_nid,
        limit=limit,
    )
    return found


async def insert(tx: Tx, reporter_nid: int, new: NewReport, now_ms: int) -> None:
    """Keep a report."""
    await tx.execute(
        """
        INSERT INTO reports (received_ms, reporter_nid, kind, room_id, event_id, user_id, reason, event)
        VALUES (%(now)s, %(reporter)s, %(kind)s, %(room)s, %(event_id)s, %(user)s, %(reason)s, %(event)s)
        """,
        now=now_ms,
        reporter=reporter_nid,
        kind=int(new.kind),
        room=new.room_id,
        event_id=new.event_id,
        user=new.user_id,
        reason=new.reason,
        event=new.event,
    )


async def find_page(tx: Tx, wanted: Wanted, start: int, limit: int, *, newest_first: bool) -> list[Report]:
    """At most `limit` reports, from the one with the index `start` on."""
    return await tx.rows(
        Report,
        """
        SELECT r.report_nid, r.received_ms, u.user_id, r.kind, r.room_id, r.event_id, r.user_id, r.reason, r.event
        FROM reports r JOIN users u ON u.user_nid = r.reporter_nid
        WHERE r.kind = %(kind)s AND (%(reporter)s::text IS NULL OR u.user_id = %(reporter)s)
              AND (%(room)s::text IS NULL OR r.room_id = %(room)s)
              AND (%(user)s::text IS NULL OR r.user_id = %(user)s)
        ORDER BY CASE WHEN %(newest)s THEN -r.report_nid ELSE r.report_nid END
        LIMIT %(limit)s OFFSET %(start)s
        """,
        kind=int(wanted.kind),
        reporter=wanted.reporter,
        room=wanted.room_id,
        user=wanted.user_id,
        newest=newest_first,
        limit=limit,
        start=start,
    )


async def count(tx: Tx, wanted: Wanted) -> int:
    """How many reports that is in all."""
    found: int = await tx.value(
        """
        SELECT count(*) FROM reports r JOIN users u ON u.user_nid = r.reporter_nid
        WHERE r.kind = %(kind)s AND (%(reporter)s::text IS NULL OR u.user_id = %(reporter)s)
              AND (%(room)s::text IS NULL OR r.room_id = %(room)s)
              AND (%(user)s::text IS NULL OR r.user_id = %(user)s)
        """,
        kind=int(wanted.kind),
        reporter=wanted.reporter,
        room=wanted.room_id,
        user=wanted.user_id,
    )
    return found


async def find(tx: Tx, report_nid: int, kind: int | None = None) -> Report | None:
    """One report; of a kind, if that is said."""
    return await tx.row(
        Report,
        """
        SELECT r.report_nid, r.received_ms, u.user_id, r.kind, r.room_id, r.event_id, r.user_id, r.reason, r.event
        FROM reports r JOIN users u ON u.user_nid = r.reporter_nid
        WHERE r.report_nid = %(report)s AND (%(kind)s::smallint IS NULL OR r.kind = %(kind)s)
        """,
        report=report_nid,
        kind=kind,
    )


async def delete(tx: Tx, report_nid: int, kind: int | None = None) -> bool:
    """Whether there was one."""
    gone = await tx.execute(
        "DELETE FROM reports WHERE report_nid = %(report)s AND (%(kind)s::smallint IS NULL OR kind = %(kind)s)",
        report=report_nid,
        kind=kind,
    )
    return bool(gone)


async def count_received(tx: Tx, since_ms: int, before_ms: int) -> list[tuple[int, int]]:
    """(kind, how many) of the reports that were received in that time and are still there."""
    return await tx.all(
        """
        SELECT kind, count(*) FROM reports WHERE received_ms >= %(since)s AND received_ms < %(before)s
        GROUP BY kind ORDER BY kind
        """,
        since=since_ms,
        before=before_ms,
    )
