"""Account data as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from typing_extensions import override

from homeserver.account_data import store
from homeserver.log.entries import Append, Entry, Position, Refused, StructSink, Written
from homeserver.log.latest import entries_of, outdated
from homeserver.matrix.errors import ResourceLimitExceeded
from homeserver.storage.tx import Pipeline

GLOBAL = 0
"""`room_nid` of data that belongs to no room."""
MAX_BYTES = 64 * 1024 * 1024
"""Of all data of a user."""
LARGE = 4096
"""Bytes of content from which it is summed what the user has, though the type is not new."""


PUSH_RULES = "m.push_rules"
IGNORED = "m.ignored_user_list"
KEPT_PAST = frozenset({PUSH_RULES, IGNORED})
"""Global data of which it is known what it was: what is unread counts by it."""


class AccountDataEntry(Entry, frozen=True):
    """One type of a user's account data has new content."""

    user_nid: int
    room_nid: int
    type: str
    content: bytes
    """JSON object."""
    built_on: Position | None = None
    """Where the content stood that this one was made from, 0 if there was none; None: it replaces whatever there is."""
    most: int = 0
    """So many types the user may have there, if this one is new; 0: any number."""


class AccountDataSink(StructSink[AccountDataEntry]):
    """Into `account_data`; of several changes in one batch the last counts."""

    kind = "account_data"
    entry_type = AccountDataEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[AccountDataEntry]]) -> None:
        last = {(e.user_nid, e.room_nid, e.type): (position, e.content) for position, e in written}
        replaced = [
            (user, kind, *value)
            for (user, room, kind), value in last.items()
            if room == GLOBAL and kind in KEPT_PAST
        ]
        if replaced:
            store.keep_past(batch, replaced)
        store.upsert(batch, [(*key, *value) for key, value in last.items()])

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what was made from content that is no longer the last, and new types beyond the bound."""
        entries = entries_of(AccountDataEntry, appends)
        checked = [entry for each in entries for entry in each if entry.most or entry.built_on is not None]
        heavy = {entry.user_nid for entry in checked if entry.most and len(entry.content) > LARGE}
        found = store.find_placed_among(batch, [_key(entry) for entry in checked], heavy) if checked else None

        def refuse(refused: Refused) -> Refused:
            if found is None:
                return {}
            there = {(row.user_nid, row.room_nid, row.type): row for row in found.result}
            conflicts = outdated(entries, _key, {key: row.position for key, row in there.items()}, refused)
            return conflicts | _too_much(entries, there, {**refused, **conflicts})

        return refuse

    def undo(self, appends: Sequence[Append]) -> None:
        """Nothing was noted on the entries."""


def _too_much(
    appends: Sequence[Sequence[AccountDataEntry]], there: Mapping[Key, store.Held], refused: Refused
) -> Refused:
    """Appends that would give a user more types of data, or more bytes, than they may have. Smaller is always allowed."""
    more: Refused = {}
    sizes = {key: row.size if row.position else None for key, row in there.items()}
    types = {(row.user_nid, row.room_nid): row.types for row in there.values()}
    held = {row.user_nid: row.held for row in there.values()}
    for number, entries in enumerate(appends):
        for entry in entries if number not in refused else ():
            key = _key(entry)
            if key not in sizes:
                continue
            size = sizes[key]
            grown = len(entry.content) - (size or 0)
            place = (entry.user_nid, entry.room_nid)
            if entry.most and size is None and types[place] >= entry.most:
                more[number] = ResourceLimitExceeded("Too many types of account data")
                break
            if entry.most and grown > 0 and held[entry.user_nid] + grown > MAX_BYTES:
                more[number] = ResourceLimitExceeded(f"More than {MAX_BYTES} bytes of account data")
                break
            types[place] += size is None
            held[entry.user_nid] += grown
            sizes[key] = len(entry.content)
    return more


Key = tuple[int, int, str]


def _key(entry: AccountDataEntry) -> Key:
    return entry.user_nid, entry.room_nid, entry.type
