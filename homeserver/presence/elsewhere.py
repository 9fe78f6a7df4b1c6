"""Presence of other servers' users, as their servers say; and that it ends when these say nothing more.

spec: server-server-api/#presence (FED-29)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import psycopg
import structlog

from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Position
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import ServerName, domain_of
from homeserver.presence import store
from homeserver.presence.service import MAX_STATUS, MAX_TAKEN_OVER
from homeserver.presence.store import Row
from homeserver.presence.types import Heard, PresenceEntry
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError

_log = structlog.get_logger("atrium.presence")

LOST_SECONDS: Final = 35 * 60.0
"""Without a word for so long a user is offline. Other servers repeat themselves every 25 minutes or so."""
REPEAT_SECONDS: Final = 5 * 60.0
"""Whoever stays as they are is told of anew after this time: so all processes know that they are about."""
ACTIVE_MS: Final = 60_000
"""Activity is noted where it is so much later than what is known."""
TICK: Final = 60.0
TOGETHER: Final = 200
MAX_KNOWN: Final = 50_000


class RemotePresence:
    """A projection: when each user of another server who is not offline was heard of last, as far as this process knows."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        interning: Interning,
        memberships: Memberships,
        clock: Clock,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._log = log
        self._interning = interning
        self._memberships = memberships
        self._clock = clock
        self._server_name = server_name
        self._heard: dict[int, tuple[str, float]] = {}
        """user_nid -> (user_id, monotonic seconds)."""
        self._began = False

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {PresenceEntry: self._apply}

    def reset(self) -> None:
        """What was heard is true all the same."""

    def _apply(self, _: Position, entry: PresenceEntry) -> None:
        if domain_of(entry.user_id) == self._server_name:
            return
        if entry.presence == "offline":
            self._heard.pop(entry.user_nid, None)
        elif entry.user_nid in self._heard or len(self._heard) < MAX_KNOWN:
            self._heard[entry.user_nid] = (entry.user_id, self._clock.monotonic())

    async def hear(self, heard: Sequence[Heard]) -> None:
        """Of users who are joined to a room here; the others are nobody to us. Raises what the database says."""
        nids = await self._interning.find_user_nids([each.user_id for each in heard])
        met = [each for each in heard if each.user_id in nids and await self._is_met(nids[each.user_id])]
        if not met:
            return
        async with self._db.read() as tx:
            rows = await store.find_many(tx, [nids[each.user_id] for each in met])
        known = {row.user_nid: row for row in rows}
        entries = [self._entry(nids[each.user_id], each, known.get(nids[each.user_id])) for each in met]
        if news := [entry for entry in entries if entry is not None]:
            await self._log.append(*news)

    async def _is_met(self, user_nid: int) -> bool:
        return bool((await self._memberships.of(user_nid)).joined)

    def _entry(self, user_nid: int, heard: Heard, known: Row | None) -> PresenceEntry | None:
        """None for what is no news."""
        status = heard.status_msg[:MAX_STATUS] if heard.status_msg else None
        active_ms = max(0, self._clock.now_ms() - heard.active_ago_ms)
        before = (
            ("offline", None, 0)
            if known is None
            else (known.presence, known.status_msg, known.last_active_ms)
        )
        same = before[:2] == (heard.presence, status)
        if same:
            _, at = self._heard.get(user_nid, ("", float("-inf")))
            silent = heard.presence != "offline" and self._clock.monotonic() - at > REPEAT_SECONDS
            if not silent and active_ms - before[2] < ACTIVE_MS:
                return None
        return PresenceEntry(
            user_nid, heard.user_id, heard.presence, status, active_ms, beat=same, said=not same
        )

    async def tick(self) -> None:
        """Once: whoever was not heard of for long is offline. In one process of the cluster."""
        if not self._began:
            async with self._db.read() as tx:
                rows = await store.find_present(tx, MAX_TAKEN_OVER)
            for row, _ in rows:
                if domain_of(row.user_id) != self._server_name:
                    self._heard.setdefault(row.user_nid, (row.user_id, self._clock.monotonic()))
            self._began = True
        until = self._clock.monotonic() - LOST_SECONDS
        lost = ((nid, user_id) for nid, (user_id, at) in self._heard.items() if at < until)
        entries = [PresenceEntry(nid, user_id, "offline", None, 0) for nid, user_id in islice(lost, TOGETHER)]
        if not entries:
            return
        try:
            await self._log.append(*entries)
        except (psycopg.OperationalError, StorageError, Unavailable) as error:  # the next tick tries again
            _log.warning("presence_not_written", error=type(error).__name__)
