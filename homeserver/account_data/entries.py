"""Account data as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.account_data import store
from homeserver.log.entries import Entry, StructSink, Written
from homeserver.storage.tx import Pipeline

GLOBAL = 0
"""`room_nid` of data that belongs to no room."""


class AccountDataEntry(Entry, frozen=True):
    """One type of a user's account data has new content."""

    user_nid: int
    room_nid: int
    type: str
    content: bytes
    """JSON object."""


class AccountDataSink(StructSink[AccountDataEntry]):
    """Into `account_data`; of several changes in one batch the last counts."""

    kind = "account_data"
    entry_type = AccountDataEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[AccountDataEntry]]) -> None:
        last = {(e.user_nid, e.room_nid, e.type): (position, e.content) for position, e in written}
        store.upsert(batch, [(*key, *value) for key, value in last.items()])
