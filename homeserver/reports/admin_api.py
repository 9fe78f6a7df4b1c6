"""Reports for administrators: those of events under the paths and names that Synapse's tools know, all of them under our own.

spec: Synapse's admin API (event reports)
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from homeserver.matrix.errors import InvalidParam
from homeserver.reports.service import ReportService
from homeserver.reports.types import Report, ReportKind, Wanted
from homeserver.web.auth import AdminRequester
from homeserver.web.endpoint import Auth, EmptyObject, Path, Query, endpoint

_EVENTS = "/_synapse/admin/v1/event_reports"
_ALL = "/_atrium/admin/v1/reports"
_MOST_LISTED = 1000
Kind = Literal["event", "room", "user"]


class ReportsAdminApi:
    """Listing and deleting."""

    def __init__(self, reports: ReportService) -> None:
        self._reports = reports

    @endpoint("adminListEventReports", "GET", _EVENTS, auth=Auth.ADMIN)
    async def list_events(  # noqa: PLR0917  # what the request has
        self,
        admin: AdminRequester,
        from_: Query[int] = 0,
        limit: Query[int] = 100,
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # its name
        user_id: Query[str | None] = None,
        room_id: Query[str | None] = None,
        event_sender_user_id: Query[str | None] = None,
    ) -> dict[str, Any]:
        """Lists reports of events, the newest first."""
        del admin
        wanted = Wanted(ReportKind.EVENT, user_id, room_id, event_sender_user_id)
        return await self._list("event_reports", wanted, _page(from_, limit), newest_first=dir == "b")

    @endpoint("adminGetEventReport", "GET", f"{_EVENTS}/{{reportId}}", auth=Auth.ADMIN)
    async def get_event(self, admin: AdminRequester, report_id: Path[int]) -> dict[str, Any]:
        """Shows a report of an event, with the event as its reporter saw it."""
        del admin
        report = await self._reports.find(report_id, ReportKind.EVENT)
        return {**_told(report), "event_json": msgspec.Raw(report.event or b"null")}

    @endpoint("adminDeleteEventReport", "DELETE", f"{_EVENTS}/{{reportId}}", auth=Auth.ADMIN)
    async def delete_event(self, admin: AdminRequester, report_id: Path[int]) -> EmptyObject:
        """Deletes a report of an event."""
        del admin
        await self._reports.delete(report_id, ReportKind.EVENT)
        return EmptyObject()

    @endpoint("listReports", "GET", _ALL, auth=Auth.ADMIN)
    async def list_all(  # noqa: PLR0917  # what the request has
        self,
        admin: AdminRequester,
        kind: Query[Kind],
        from_: Query[int] = 0,
        limit: Query[int] = 100,
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # as above
        reporter: Query[str | None] = None,
        room_id: Query[str | None] = None,
        user_id: Query[str | None] = None,
    ) -> dict[str, Any]:
        """Lists reports of a kind, the newest first."""
        del admin
        wanted = Wanted(ReportKind[kind.upper()], reporter, room_id, user_id)
        return await self._list("reports", wanted, _page(from_, limit), newest_first=dir == "b")

    @endpoint("getReport", "GET", f"{_ALL}/{{reportId}}", auth=Auth.ADMIN)
    async def get(self, admin: AdminRequester, report_id: Path[int]) -> dict[str, Any]:
        """Shows any report."""
        del admin
        report = await self._reports.find(report_id)
        event = {} if report.event is None else {"event_json": msgspec.Raw(report.event)}
        return {**_told(report), **event}

    @endpoint("deleteReport", "DELETE", f"{_ALL}/{{reportId}}", auth=Auth.ADMIN)
    async def delete(self, admin: AdminRequester, report_id: Path[int]) -> EmptyObject:
        """Deletes any report."""
        del admin
        await self._reports.delete(report_id)
        return EmptyObject()

    async def _list(
        self, name: str, wanted: Wanted, page: tuple[int, int], *, newest_first: bool
    ) -> dict[str, Any]:
        start, limit = page
        found, total = await self._reports.page(wanted, start, limit, newest_first=newest_first)
        told: dict[str, Any] = {name: [_told(each) for each in found], "total": total}
        if start + len(found) < total:
            told["next_token"] = start + len(found)
        return told


def _told(report: Report) -> dict[str, Any]:
    """As Synapse names the fields: `user_id` reported it, `sender` is who is reported."""
    told = {
        "id": report.report_nid,
        "received_ts": report.received_ms,
        "user_id": report.reporter,
        "reason": report.reason,
    }
    match report.kind:
        case ReportKind.EVENT:
            told |= {
                "room_id": report.room_id,
                "event_id": report.event_id,
                "sender": report.user_id,
                "score": None,
            }
        case ReportKind.ROOM:
            told |= {"room_id": report.room_id}
        case _:
            told |= {"target_user_id": report.user_id}
    return told


def _page(start: int, limit: int) -> tuple[int, int]:
    if start < 0 or limit < 1:
        raise InvalidParam("from, limit: less than nothing")
    return start, min(limit, _MOST_LISTED)
