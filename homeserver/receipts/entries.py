"""A receipt as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from typing_extensions import override

from homeserver.log.entries import Append, Conflict, Refused, StructSink, Written
from homeserver.log.latest import entries_of
from homeserver.receipts import store
from homeserver.receipts.types import ReceiptEntry
from homeserver.storage.tx import Pipeline


class ReceiptSink(StructSink[ReceiptEntry]):
    """Into `receipts`, always forwards: of two at once the one of the later event stays, whichever comes last."""

    kind = "receipt"
    entry_type = ReceiptEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[ReceiptEntry]]) -> None:
        last = {_key(entry): (position, entry) for position, entry in written}
        store.upsert(batch, list(last.values()))

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what would go back behind a receipt that is there by now."""
        entries = entries_of(ReceiptEntry, appends)
        keys = [_key(entry) for each in entries for entry in each]
        found = store.find_events(batch, keys) if keys else None

        def behind(refused: Refused) -> Refused:
            if found is None:
                return {}
            read = {(room, user, kind, thread): nid for room, user, kind, thread, nid in found.result}
            conflicts: Refused = {}
            for number, each in enumerate(entries):
                if number in refused:
                    continue
                if any(entry.event_nid <= read.get(_key(entry), 0) for entry in each):
                    conflicts[number] = Conflict("the user has read further")
                    continue
                read.update({_key(entry): entry.event_nid for entry in each})
            return conflicts

        return behind

    def undo(self, appends: Sequence[Append]) -> None:
        """Nothing was noted on the entries."""


def _key(entry: ReceiptEntry) -> store.Key:
    return entry.room_nid, entry.user_nid, entry.type, entry.thread
