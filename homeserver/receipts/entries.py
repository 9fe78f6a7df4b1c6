"""A receipt as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from homeserver.log.entries import Entry, StructSink, Written
from homeserver.receipts import store
from homeserver.storage.tx import Pipeline

READ: Final = 1
PRIVATE: Final = 2
NAMES: Final = {READ: "m.read", PRIVATE: "m.read.private"}
UNTHREADED: Final = ""


class ReceiptEntry(Entry, frozen=True):
    """A user has read up to an event."""

    room_nid: int
    user_nid: int
    user_id: str
    type: int
    thread: str
    """UNTHREADED, "main", or the root's event id."""
    event_nid: int
    event_id: str
    ts_ms: int


class ReceiptSink(StructSink[ReceiptEntry]):
    """Into `receipts`; of several in one batch the last counts."""

    kind = "receipt"
    entry_type = ReceiptEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[ReceiptEntry]]) -> None:
        last = {(e.room_nid, e.user_nid, e.type, e.thread): (position, e) for position, e in written}
        store.upsert(batch, list(last.values()))
