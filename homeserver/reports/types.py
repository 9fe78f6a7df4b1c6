"""What a report is."""

from __future__ import annotations

import enum
from typing import NamedTuple


class ReportKind(enum.IntEnum):
    """What is reported."""

    EVENT = 0
    ROOM = 1
    USER = 2


class NewReport(NamedTuple):
    """A report to be kept."""

    kind: ReportKind
    reason: str | None
    room_id: str | None = None
    event_id: str | None = None
    user_id: str | None = None
    """Who is reported; of an event: its sender."""
    event: bytes | None = None
    """JSON in the format of the client API, as the reporter could read it."""


class Report(NamedTuple):
    """A report that is kept."""

    report_nid: int
    received_ms: int
    reporter: str
    kind: int
    room_id: str | None
    event_id: str | None
    user_id: str | None
    reason: str | None
    event: bytes | None


class Wanted(NamedTuple):
    """Which reports to list; None: whatever it is."""

    kind: ReportKind
    reporter: str | None = None
    room_id: str | None = None
    user_id: str | None = None
