"""What `atrium doctor` says of periodic work: what fails again and again."""

from __future__ import annotations

from homeserver.runtime import periodic_store as store
from homeserver.runtime.checkup import Finding
from homeserver.storage.tx import Tx

FAILURES = 3
"""Runs that failed in a row."""


async def examine(tx: Tx) -> list[Finding]:
    """Findings about work that runs once in a cluster; none if all goes well."""
    found = []
    for name, failures, since_success, _ in await store.list_work(tx):
        if failures >= FAILURES:
            ago = "never" if since_success is None else f"{since_success / 3600:.1f} hours ago"
            found.append(
                Finding(
                    "doubtful",
                    f"{name} has failed {failures} times in a row; it last succeeded {ago}",
                    "the log says why (periodic_failed)",
                )
            )
    return found
