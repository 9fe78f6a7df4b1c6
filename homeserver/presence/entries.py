"""Presence as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from typing_extensions import override

from homeserver.log.entries import Append, Refused, StructSink, Written
from homeserver.log.latest import entries_of, keys_of, outdated
from homeserver.presence import store
from homeserver.presence.types import Latest, PresenceEntry
from homeserver.storage.tx import Pipeline


class PresenceSink(StructSink[PresenceEntry]):
    """Into `presence`; of several in one batch the last counts. A beat says nothing but when the user was active."""

    kind = "presence"
    entry_type = PresenceEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[PresenceEntry]]) -> None:
        last = {entry.user_nid: (position, entry) for position, entry in written if not entry.beat}
        active: dict[int, int] = {}
        for _, entry in written:
            active[entry.user_nid] = max(entry.last_active_ms, active.get(entry.user_nid, 0))
        if last:
            store.upsert(batch, [Latest(*row, active[nid]) for nid, row in last.items()])
        beats = [(nid, active_ms) for nid, active_ms in active.items() if nid not in last]
        if beats:
            store.note_active(batch, beats)

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what was made from a presence that is no longer the last."""
        changes = [
            [entry for entry in entries if not entry.beat] for entries in entries_of(PresenceEntry, appends)
        ]
        users = keys_of(changes, _user)
        found = store.find_positions(batch, users) if users else None
        return lambda refused: outdated(changes, _user, dict(found.result), refused) if found else {}

    def undo(self, appends: Sequence[Append]) -> None:
        """Nothing was noted on the entries."""


def _user(entry: PresenceEntry) -> int:
    return entry.user_nid
