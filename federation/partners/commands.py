"""What an administrator sees of partners: what was agreed, and what they did. Works beside a running server."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from federation.partners import store
from federation.partners.activity import DAY_MS
from federation.partners.policy import Policy, Terms
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

DAYS: Final = 7


async def figures(
    db: Database, server_names: Collection[str], clock: Clock, *, days: int = DAYS
) -> dict[str, dict[str, int]]:
    """What servers did in the last days: server -> kind (`ports.Done`, or `refused (REASON)`) -> how often."""
    async with db.read() as tx:
        rows = await store.sum_activity(tx, clock.now_ms() // DAY_MS - days + 1, server_names)
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        kind = f"refused ({row.room_id})" if row.kind == "refused" else row.kind
        found.setdefault(row.server_name, {})[kind] = row.times
    return found


def agreed(policy: Policy, server_name: ServerName) -> str:
    """What holds for a server, in a few words; empty: nothing in particular."""
    if not policy.may_speak(server_name):
        return "not spoken with"
    return in_words(policy.terms(server_name))


def in_words(terms: Terms) -> str:
    """What was agreed; empty: nothing in particular."""
    parts = [f"contact {terms.contact}"] if terms.contact else []
    if terms.ca_files:
        parts.append("authorities of its own")
    if terms.pins:
        parts.append(f"{len(terms.pins)} pinned keys")
    for rate, what in ((terms.requests, "requests"), (terms.pdus, "events")):
        if rate is not None:
            parts.append(f"{rate.per_second:g} {what} a second, {rate.burst} at once")
    if terms.rooms is not None:
        parts.append("some rooms alone")
    if not terms.media:
        parts.append("no files")
    elif terms.max_media is not None:
        parts.append(f"files up to {terms.max_media} bytes")
    if not terms.presence:
        parts.append("no presence")
    return ", ".join(parts)
