"""What `atrium doctor` says of work in the background: what waits, what was given up, and of periodic work what fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homeserver.jobs import store
from homeserver.jobs.types import Backlog
from homeserver.runtime import periodic_checkup
from homeserver.runtime.checkup import Finding
from homeserver.storage.database import Database

OVERDUE = 900.0
"""Seconds after which a job that could be done is doubtful: a server that runs begins it within seconds."""


async def examine(db: Database) -> list[Finding]:
    """Findings about jobs and periodic work in a database whose schema is current."""
    async with db.read() as tx:
        backlogs, periodic = await store.list_backlogs(tx), await periodic_checkup.examine(tx)
    found = [*_jobs(backlogs), *periodic]
    waiting = sum(backlog.waiting for backlog in backlogs)
    return found or [Finding("good", f"Work in the background goes well; {waiting} jobs wait")]


def _jobs(backlogs: Sequence[Backlog]) -> Iterator[Finding]:
    for kind, waiting, failed, overdue in backlogs:
        if overdue > OVERDUE:
            yield Finding(
                "doubtful",
                f"{waiting} jobs of the kind {kind} wait, the longest for {overdue / 60:.0f} minutes",
                "fine if no server runs; else its log says what stands in their way (job_delayed)",
            )
        if failed:
            yield Finding(
                "doubtful",
                f"{failed} jobs of the kind {kind} were given up within the last {store.KEEP_FAILED_DAYS} days",
                "the log says why (job_given_up), and the column cause of the table jobs",
            )
