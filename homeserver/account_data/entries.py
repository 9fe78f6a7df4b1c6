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
        keys = [_key(entry) for each in entries for entry in each if entry.most or entry.built_on is not None]
        found = store.find_placed_among(batch, keys) if keys else None

        def refuse(refused: Refused) -> Refused:
            if found is None:
                return {}
            stand = {(user, room, kind): position for user, room, kind, position, _ in found.result}
            conflicts = outdated(entries, _key, stand, refused)
            types = {(user, room): number for user, room, _, _, number in found.result}
            return conflicts | _too_many(entries, stand, types, {**refused, **conflicts})

        return refuse

    def undo(self, appends: Sequence[Append]) -> None:
        """Nothing was noted on the entries."""


def _too_many(
    appends: Sequence[Sequence[AccountDataEntry]],
    stand: Mapping[Key, Position],
    types: dict[tuple[int, int], int],
    refused: Refused,
) -> Refused:
    """Appends that would give a user more types of data than they may have. Those that exist may always be changed."""
    more: Refused = {}
    there = {key for key, position in stand.items() if position}
    for number, entries in enumerate(appends):
        if number in refused:
            continue
        new = {key: entry.most for entry in entries if (key := _key(entry)) in stand and key not in there}
        for user, room, _ in new:
            types[user, room] += 1
        if any(most and types[user, room] > most for (user, room, _), most in new.items()):
            more[number] = ResourceLimitExceeded("Too many types of account data")
            for user, room, _ in new:
                types[user, room] -= 1
            continue
        there.update(new)
    return more


Key = tuple[int, int, str]


def _key(entry: AccountDataEntry) -> Key:
    return entry.user_nid, entry.room_nid, entry.type
