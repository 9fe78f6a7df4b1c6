"""Telling moderators by mail that something was reported: one letter to each for all reports of five minutes.

A letter says how many there are of what, and where they are read; what was reported stands in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

from homeserver.jobs.service import Jobs
from homeserver.jobs.types import GiveUp, JobKind, Retry
from homeserver.mail.service import MailService
from homeserver.mail.types import Letter
from homeserver.reports import store
from homeserver.reports.types import ReportKind
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

SPAN_MS: Final = 300_000
_WORDS: Final = {ReportKind.EVENT: "messages", ReportKind.ROOM: "rooms", ReportKind.USER: "users"}

_PLACES: Final = "/_synapse/admin/v1/event_reports (messages) and /_atrium/admin/v1/reports (all)"


class ReportsLetter(msgspec.Struct, frozen=True):
    """To whom, and of which time: from `since_ms` on (ms since 1970) for `SPAN_MS`."""

    to: str
    since_ms: int


LETTER: Final = JobKind(
    "reports.letter",
    ReportsLetter,
    Retry(first=30.0, factor=4.0, longest=3600.0, attempts=8),
    timeout=600.0,
    most=1_000,
)


class ReportLetters:
    """Orders letters with the reports, and sends those that were ordered. Holds nothing in memory."""

    def __init__(
        self, db: Database, mail: MailService | None, recipients: Sequence[str], server_name: str
    ) -> None:
        """`mail` None: this server sends none."""
        self._db = db
        self._mail = mail
        self._recipients = recipients if mail is not None else ()
        self._server_name = server_name

    def order(self, batch: Pipeline, now_ms: int) -> None:
        """Add to the transaction of a report that was received then. Another one of the same time orders the same letters."""
        since_ms = now_ms - now_ms % SPAN_MS
        for to in self._recipients:
            due = (since_ms + SPAN_MS - now_ms) / 1000
            Jobs.defer(batch, LETTER, ReportsLetter(to, since_ms), key=f"{since_ms} {to}", after=due)

    async def send(self, order: ReportsLetter) -> None:
        """Send one, unless all that it would tell of was dealt with. Raises as `MailService.send`."""
        if self._mail is None or order.to not in self._recipients:
            raise GiveUp("no reports are mailed to them any more")
        async with self._db.read() as tx:
            counts = await store.count_received(tx, order.since_ms, order.since_ms + SPAN_MS)
        if not counts:
            return
        told = ", ".join(f"{_WORDS[ReportKind(kind)]}: {count}" for kind, count in counts)
        subject = f"Reports on {self._server_name}"
        lines = [
            f"Users of {self._server_name} have reported something to its moderators ({told}).",
            f"Administrators find them under {_PLACES}, with the tool they use for that.",
        ]
        html = "".join(f"<p>{escape(line)}</p>" for line in lines)
        await self._mail.send(
            Letter(order.to, subject, "\n\n".join(lines) + "\n", f"<!doctype html><html><body>{html}</body></html>")
        )  # fmt: skip
